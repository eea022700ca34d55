"""Teachers that read images: one size of images, one length, patches embedded by a convolution, pooled outputs."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from autodistil_helpers import RECIPE, VISION_CONFIGS, inputs_of, objective_of, random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st
from image_helpers import PROCESSORS, save_random_vit
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, DeiTConfig, Dinov2Config, ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from autodistil.costs.budget import read_budget
from autodistil.costs.closed_form import budget_cost, flops, parameters
from autodistil.costs.fvcore_check import count_flops
from autodistil.data.batch import VISIBLE, count_tokens, take_rows
from autodistil.data.patch_masks import num_views, num_visible, visible_tokens
from autodistil.errors import BudgetError, SpaceError, TeacherError
from autodistil.models.families import family_of
from autodistil.models.families.vit import DINOV2, VIT
from autodistil.models.image_processor import fit_positions, reader_of
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import load_teacher
from autodistil.space.fit import auto_space
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import StudentConfig
from autodistil.training.trainer import SuperLMTrainer, train
from autodistil.training.workers import DistributedWorkers


@pytest.mark.parametrize("size", [16, 18, 32])
@pytest.mark.parametrize("config", [ViTConfig, DeiTConfig, Dinov2Config])
def test_costs_at_any_image_size_equal_independent_counts(config, size):
    config = config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=size, patch_size=5
    )
    family = family_of(config)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    shape = family.encoder_shape(config, getattr(model, "pooler", None) is not None)
    dims, tokens = family.dimensions(config), family.max_length(config)
    assert tokens == (size // 5) ** 2 + family.special_tokens == shape.fixed_length
    assert flops([dims], shape, tokens) == [count_flops(config, tokens)]
    assert parameters([dims], shape) == [model.num_parameters()]


def test_vit_base_costs_what_its_paper_says():
    """ViT-B/16 at 224 pixels: 86 M parameters, 17.6 G multiply-adds (arXiv 2010.11929 and timm)."""
    config = ViTConfig()
    shape = VIT.encoder_shape(config, pooler=False)
    dims = VIT.dimensions(config)
    assert parameters([dims], shape) == [85_798_656]
    assert flops([dims], shape, 197)[0] == pytest.approx(17.6e9, rel=0.01)


def test_flops_at_another_length_than_that_of_an_image_are_refused():
    teacher = random_teacher("vit")
    with pytest.raises(BudgetError, match="got 64; allowed: 17, the tokens of an image"):
        budget_cost(read_budget("1MFLOPs@64"), [teacher.dims], teacher.encoder_shape, 17)
    assert budget_cost(read_budget("1MFLOPs"), [teacher.dims], teacher.encoder_shape, 17) > 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            ViTConfig(hidden_size=64, num_attention_heads=5),
            "num_attention_heads = 5 .* does not divide hidden_size = 64",
        ),
        (Dinov2Config(use_swiglu_ffn=True), "use_swiglu_ffn = true are not supported"),
        (ViTConfig(num_channels=4), "num_channels = 4 are not supported .allowed: 1 or 3."),
        (ViTConfig(image_size=8, patch_size=16), "patch_size = 16 above image_size = 8"),
        (ViTConfig(pooler_output_size=8), "pooler_output_size = 8 are not supported"),
    ],
)
def test_models_that_no_table_describes_are_refused(config, message):
    with pytest.raises(TeacherError, match=message):
        family_of(config).dimensions(config)


def test_spaces_of_text_are_refused():
    base = {"num_layers": (2,), "hidden_size": (32,), "head_size": (16,), "mlp_ratio": (2.0,)}
    for axis in ("vocab_size", "embedding_size"):
        space = SearchSpace("s", "", (SubSpace("tiny", {**base, axis: (16,)}),))
        with pytest.raises(SpaceError, match=f"{axis}: got it for vit, which reads images"):
            VIT.check_space(space)


def test_dinov2_students_have_whole_mlp_ratios():
    """Its config knows no others; a derived space is left with those."""
    space = auto_space(StudentConfig(4, 64, 4, 16, 256))
    with pytest.raises(SpaceError, match=r"mlp_ratio: got 2.5, 3.5; allowed: whole numbers"):
        DINOV2.check_space(space)
    DINOV2.check_space(DINOV2.fit_space(space))
    assert VIT.fit_space(space) == space
    assert {sub.axes["mlp_ratio"] for sub in DINOV2.fit_space(space).sub_spaces} == {(2.0, 3.0, 4.0)}


@torch.no_grad()
@pytest.mark.parametrize("kind", sorted(VISION_CONFIGS))
def test_exports_reload_in_every_size(kind, tmp_path):
    """What configs say a layer (stages of DINOv2) or beside the axes (the pooler's width) follows the student."""
    teacher = random_teacher(kind)
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    batch = inputs_of(teacher)
    for student in superlm.sub_space.students[::7]:
        superlm.extract(student).save_pretrained(tmp_path)
        reloaded = AutoModel.from_pretrained(tmp_path).eval()
        assert teacher.family.dimensions(reloaded.config) == student
        ours = superlm.forward(student, batch, output=True)
        theirs = reloaded(**batch)
        assert torch.equal(ours.output, theirs.last_hidden_state)
        assert torch.equal(ours.pooled, theirs.pooler_output)


# ---- pooled outputs


def test_the_class_token_and_the_pooler_are_trained():
    """With an embedding term gradients reach the pooler where it is what embeds, and only there."""
    teacher = random_teacher("vit")
    assert (teacher.pooling, replace(teacher, has_pooler=False).pooling) == ("pooler", "cls")
    assert random_teacher("dinov2").pooling == "cls"
    states = teacher.states(inputs_of(teacher), output=True)
    for pooling, reached in (("pooler", True), ("cls", False)):
        superlm = SuperLM.from_teacher(teacher, small_space(teacher))
        student = superlm.sub_space.smallest
        ours = superlm.forward(student, inputs_of(teacher), output=True)
        objective_of("embedding-similarity+embedding-cosine", pooling=pooling)(ours, states).backward()
        gradient = superlm.parameters["pooler.dense.weight"].grad
        assert (gradient is not None) == reached
        assert superlm.parameters["embeddings.cls_token"].grad.any()


@pytest.mark.parametrize("kind", sorted(VISION_CONFIGS))
def test_training_lowers_the_loss(kind):
    teacher = random_teacher(kind)
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    objective = objective_of("relation-kl+embedding-similarity+10*last-hidden", pooling=teacher.pooling)
    trainer = SuperLMTrainer(superlm, replace(RECIPE, steps=8), objective)
    rows = []
    train([trainer], teacher, lambda step: iter([inputs_of(teacher, 8)]), rows.extend)
    assert rows[-1].smallest_loss < rows[0].smallest_loss
    assert rows[0].tokens == 8 * teacher.max_length


def test_batches_of_images():
    batch = inputs_of(random_teacher("vit"), 5)
    assert torch.equal(take_rows(batch, slice(1, 3))["pixel_values"], batch["pixel_values"][1:3])
    assert count_tokens(batch, 17) == 85


def test_workers_share_images_evenly():
    batch = inputs_of(random_teacher("vit"), 5)
    parts = [part for rank in range(2) for part in DistributedWorkers(rank, 2).take([batch])]
    assert torch.equal(torch.cat([part.batch["pixel_values"] for part in parts]), batch["pixel_values"])
    for measure in ("tokens", "pairs", "texts"):
        assert [getattr(part.share, measure) for part in parts] == [2 / 5, 3 / 5]


# ---- processors


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_pixels_then_inputs_are_what_the_processor_does(name):
    processor, channels = PROCESSORS[name]()
    reader = reader_of(processor, "teacher", channels)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 30, channels), dtype=np.uint8)
    images = [Image.fromarray(image.squeeze(-1) if channels == 1 else image) for image in pixels]
    ours = reader.inputs.batch(reader.pixels(images))["pixel_values"]
    theirs = processor(images=images, return_tensors="pt")["pixel_values"].float()
    assert ours.shape == (3, channels, 16, 16)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "channels", "message"),
    [
        ({"size": {"height": 16, "width": 20}}, 3, "makes 3x16x20 of images; allowed: one square size"),
        ({"do_resize": False}, 3, "makes 3x48x64 and 3x96x56 of images"),
        ({"image_mean": [0.1, 0.2]}, 3, "cannot read images of 3 channels"),
    ],
)
def test_processors_that_do_something_else_are_refused(options, channels, message):
    processor = ViTImageProcessorPil(**{"size": {"height": 16, "width": 16}, **options})
    with pytest.raises(TeacherError, match=message):
        reader_of(processor, "teacher", channels)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vit", "deit", "dinov2"])
def test_positions_are_fitted_once_to_the_size_that_the_processor_gives(kind):
    """DINOv2 is trained at 518 pixels and used at 224; a model of the fitted size computes the same."""
    model = AutoModel.from_config(VISION_CONFIGS[kind]()).eval()
    pixels = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    options = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}
    expected = model(pixels, **options).last_hidden_state
    fit_positions(model, 24, family_of(model.config).special_tokens)
    assert model.config.image_size == 24
    torch.testing.assert_close(model(pixels).last_hidden_state, expected, rtol=0, atol=1e-6)
    fresh = AutoModel.from_config(model.config)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh.eval()(pixels).last_hidden_state, expected, rtol=0, atol=1e-6)


# ---- folders


def test_a_classifier_is_a_teacher(tmp_path):
    torch.manual_seed(0)
    model = ViTForImageClassification(VISION_CONFIGS["vit"]()).eval()
    model.save_pretrained(tmp_path)
    PROCESSORS["vit"]()[0].save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))
    assert not teacher.has_pooler
    assert teacher.pooling == "cls"
    batch = inputs_of(teacher)
    with torch.no_grad():
        assert torch.equal(teacher.states(batch, output=True).output, model.vit(**batch).last_hidden_state)


def test_another_normalisation_is_another_teacher(tmp_path):
    save_random_vit(tmp_path)
    fingerprint = load_teacher(str(tmp_path)).fingerprint
    AutoImageProcessor.from_pretrained(tmp_path, backend="pil", image_mean=[0.4] * 3).save_pretrained(tmp_path)
    assert load_teacher(str(tmp_path)).fingerprint != fingerprint


def test_a_teacher_without_a_processor_is_refused(tmp_path):
    save_random_vit(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(TeacherError, match="has no usable image processor"):
        load_teacher(str(tmp_path))


def test_images_survive_a_file_of_no_name():
    """What data sets hold are bytes, not files."""
    from autodistil.data.images import decode

    stream = io.BytesIO()
    Image.new("L", (5, 4), 7).save(stream, "PNG")
    assert np.asarray(decode(io.BytesIO(stream.getvalue()), "row 0", 3)).shape == (4, 5, 3)


# ---- a part of the patches


@torch.no_grad()
@pytest.mark.parametrize("kind", sorted(VISION_CONFIGS))
def test_a_model_reads_the_visible_tokens_as_if_there_were_no_others(kind, monkeypatch):
    teacher = random_teacher(kind)
    batch = inputs_of(teacher, 3)
    whole = torch.arange(teacher.max_length).expand(3, -1)
    assert torch.equal(
        teacher.states({**batch, VISIBLE: whole}, output=True).output, teacher.states(batch, output=True).output
    )
    special = teacher.family.special_tokens
    some = torch.from_numpy(visible_tokens(np.random.default_rng(0), 3, teacher.max_length - special, special, 0.25))
    found = teacher.states({**batch, VISIBLE: some}, output=True, hidden=True)
    assert found.output.shape[1] == found.attention.query.shape[2] == found.hidden[0].shape[1] == special + 4
    embedded = teacher.model.embeddings(**batch)
    alone = torch.stack([row[kept] for row, kept in zip(embedded, some, strict=True)])
    monkeypatch.setattr(teacher.model.embeddings, "forward", lambda *_, **__: alone)
    torch.testing.assert_close(teacher.model(**batch).last_hidden_state, found.output)


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2), st.floats(0.02, 1), st.integers(0, 99), st.booleans())
def test_views_have_no_patch_in_common(images, patches, special, share, seed, disjoint):
    views = min(num_views(share), patches) if disjoint else 1
    found = visible_tokens(np.random.default_rng(seed), images, patches, special, share, views)
    kept = num_visible(patches, share)
    assert found.shape == (images * views, special + kept)
    assert (np.diff(found, axis=1) > 0).all()
    assert (found[:, :special] == np.arange(special)).all()
    for image in found[:, special:].reshape(images, views * kept):
        assert len(set(image)) == views * kept
        assert set(image) <= set(range(special, special + patches))
    if disjoint and patches % views == 0 and share == 1 / views:
        assert views * kept == patches


def test_upper_hidden_compares_what_lies_at_three_quarters():
    teacher = random_teacher("vit")
    batch = inputs_of(teacher, 3)
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student = superlm.sub_space.smallest
    ours, theirs = superlm.forward(student, batch, output=True, hidden=True), teacher.states(batch, None, True, True)
    layers = [-(-3 * len(states.hidden) // 4) - 1 for states in (ours, theirs)]
    mine, wanted = ours.hidden[layers[0]], theirs.hidden[layers[1]][..., : student.hidden_size]
    expected = 1 - torch.cosine_similarity(mine, wanted, dim=-1).mean()
    torch.testing.assert_close(objective_of("upper-hidden")(ours, theirs), expected)
