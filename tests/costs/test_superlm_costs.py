"""The closed forms equal what a SuperLM's own students cost, for every family."""

import pytest
from autodistil_helpers import ALL_CONFIGS, random_teacher, small_space
from variants import slow_but

from autodistil.costs.closed_form import flops, parameters, size_mb
from autodistil.costs.fvcore_check import count_flops
from autodistil.models.superlm import SuperLM


@pytest.mark.parametrize("kind", slow_but(["bert", "mpnet", "modernbert", "vit", "dinov2"], sorted(ALL_CONFIGS)))
def test_closed_forms_equal_fvcore_and_the_model(kind, tmp_path):
    teacher = random_teacher(kind)
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    for student in superlm.sub_space.students[::5]:
        model = superlm.extract(student)
        length = teacher.encoder_shape.fixed_length or 24
        assert flops([student], teacher.encoder_shape, length)[0] == count_flops(superlm.meta_model(student), length)
        assert parameters([student], teacher.encoder_shape)[0] == sum(p.numel() for p in model.parameters())
        without = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("embeddings"))
        assert parameters([student], teacher.encoder_shape, embeddings=False)[0] == without
    model.save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size / 1e6
    bound = size_mb([student], teacher.encoder_shape)[0]
    assert size <= bound <= size + 0.02
