"""Weight decay is for linear maps and convolutions, in every family."""

import pytest
from autodistil_helpers import ALL_CONFIGS, DECODER_CONFIGS, RECIPE, objective_of, random_teacher, small_space

from autodistil.models.families.family import LM_HEAD
from autodistil.models.superlm import SuperLM
from autodistil.models.weight_decay import decayed_parameters
from autodistil.space.space import SubSpace
from autodistil.training.trainer import SuperLMTrainer

PATCHES = "embeddings.patch_embeddings.projection.weight"


@pytest.mark.parametrize("kind", [*ALL_CONFIGS, *DECODER_CONFIGS])
def test_maps_decay_and_nothing_else(kind):
    """Told from the family's table, which the rule does not look at."""
    teacher = random_teacher(kind)
    family = teacher.family
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    groups = SuperLMTrainer(superlm, RECIPE, objective_of("relation-kl")).optimizer.param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(superlm.parameters)
    for name, parameter in superlm.parameters.items():
        module, leaf = name.rsplit(".", 1)
        is_map = leaf == "weight" and family.linear_atoms(module) is not None
        assert (id(parameter) in decayed) == (is_map or name in (LM_HEAD, PATCHES)), name


@pytest.mark.parametrize("kind", [*ALL_CONFIGS, *DECODER_CONFIGS])
def test_models_are_read_alike(kind):
    model = random_teacher(kind).model
    decayed = decayed_parameters(model)
    assert decayed
    assert all(parameter.dim() > 1 for name, parameter in model.named_parameters() if name in decayed)


@pytest.mark.parametrize(("kind", "name"), [("dinov2", "lambda1"), ("mpnet", "relative_attention_bias.weight")])
def test_what_scales_or_is_added_stays(kind, name):
    names = [one for one, _ in random_teacher(kind).model.named_parameters() if one.endswith(name)]
    assert names
    assert not decayed_parameters(random_teacher(kind).model) & set(names)


def test_factorised_embeddings_have_one_map():
    teacher = random_teacher("bert")
    axes = {"num_layers": (4,), "hidden_size": (64,), "num_heads": (4,), "head_size": (16,), "mlp_ratio": (2.0,)}
    superlm = SuperLM.from_teacher(teacher, SubSpace("thin", {**axes, "embedding_size": (16,)}))
    assert {name for name in superlm.decayed if superlm.family.layer_of(name) is None} == {"embeddings_project.weight"}
