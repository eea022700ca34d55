"""Windows of local attention: sliced = extracted = reloaded, what a token sees, the cache that they bound, refusals."""

from dataclasses import replace

import pytest
import torch
from autodistil_helpers import DECODER_CONFIGS, FAMILY_CONFIGS, RECIPE, own_inputs, random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForCausalLM, LlamaModel, MinistralConfig, MistralConfig
from variants import slow_but

from autodistil.costs.budget import read_budget
from autodistil.costs.closed_form import budget_cost, cache_bytes, flops, kv_bytes
from autodistil.costs.fvcore_check import count_flops
from autodistil.errors import BudgetError, SpaceError
from autodistil.export.family_contract import check_family
from autodistil.export.family_contract import random_teacher as teacher_of
from autodistil.models import attention
from autodistil.models.families import LLAMA, MODERNBERT, family_of
from autodistil.models.superlm import SuperLM
from autodistil.space.files import space_from_dict, space_to_dict
from autodistil.space.space import SearchSpace
from autodistil.space.student import StudentConfig
from autodistil.training.sampling import draw_students

BOTH = {"window": (4, 6, None), "global_every": (2,)}
KINDS = {
    "modernbert": {"window": (2, 6, None)},
    "modernbert-biases": {"window": (2, 6, None)},
    "llama": BOTH,
    "llama-ungrouped": {"window": (4, None)},
    "qwen2": BOTH,
    "qwen3": {"window": (4, 6, None)},
}
"""Teacher -> axes: texts of the tests have 12 tokens."""


def superlm_of(kind, **axes) -> SuperLM:
    teacher = random_teacher(kind)
    return SuperLM.from_teacher(teacher, small_space(teacher).with_axes(**(axes or KINDS[kind])))


# ---- the model


@pytest.mark.parametrize("kind", slow_but(("modernbert", "llama", "qwen3"), KINDS))
@torch.no_grad()
def test_sliced_is_extracted_is_reloaded(kind, tmp_path):
    superlm = superlm_of(kind)
    generator, auto = torch.Generator().manual_seed(0), AutoModelForCausalLM if "bert" not in kind else AutoModel
    for student in [one for one in superlm.sub_space.students if one.num_layers == 4][1::5]:
        model = superlm.extract(student)
        ids, mask, batch = own_inputs(superlm, student, generator)
        ours, whole = (superlm.forward(one, batch, output=True).output for one in (student, student.architecture))
        theirs = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(theirs[mask == 1], ours[mask == 1])
        assert torch.equal(whole, ours) == (student.window is None)
        folder = tmp_path / student.label
        model.save_pretrained(folder)
        again = auto.from_pretrained(folder).eval().base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(again[mask == 1], ours[mask == 1])


@pytest.mark.parametrize("every", [None, 2])
@torch.no_grad()
def test_a_llama_with_a_window_is_the_layer_of_mistral(every):
    """Against transformers' Llama with the mask by hand, layer by layer; Ministral where some layers are global."""
    superlm = superlm_of("llama", window=(3,), **({"global_every": (every,)} if every else {}))
    student = superlm.sub_space.largest
    student = replace(student, window=3, global_every=every)
    llama, ids = superlm.extract(student.architecture).model, torch.randint(3, 97, (2, 12))
    assert type(llama) is LlamaModel
    at = torch.arange(12)
    seen, near = at <= at[:, None], at > at[:, None] - 3
    states, positions = llama.embed_tokens(ids), at[None]
    for number, layer in enumerate(llama.layers):
        mask = (seen if every and number % every == 0 else seen & near)[None, None]
        turned = llama.rotary_emb(states, positions)
        states = layer(states, attention_mask=mask, position_ids=positions, position_embeddings=turned)
    theirs = superlm.extract(student)
    assert theirs.config.model_type == ("ministral" if every else "mistral")
    torch.testing.assert_close(theirs.model(ids).last_hidden_state, llama.norm(states))
    ours = superlm.forward(student, {"input_ids": ids}, output=True).output
    torch.testing.assert_close(ours, llama.norm(states))


@pytest.mark.parametrize(("kind", "window", "sees"), [("qwen2", 4, (3, 0)), ("modernbert", 4, (2, 2))])
@torch.no_grad()
def test_a_token_sees_its_window_and_no_further(kind, window, sees):
    """With all layers local, two of them: a change reaches twice as far as a layer sees, before and behind."""
    superlm = superlm_of(kind, window=(window,))
    student = next(one for one in superlm.sub_space.students if one.num_layers == 2)
    model = superlm.extract(student)
    if kind == "modernbert":  # its first and last layers are global
        config = model.config
        config.layer_types = ["sliding_attention"] * 2
        model = AutoModel.from_config(config).eval()
    ids = torch.randint(3, 97, (1, 20))
    other = ids.clone()
    other[0, 10] = (other[0, 10] - 2) % 94 + 3
    states, changed = (model.base_model(each).last_hidden_state[0] for each in (ids, other))
    reached = (states - changed).abs().amax(-1).gt(1e-6).nonzero()[:, 0].tolist()
    before, behind = sees
    assert reached == list(range(10 - 2 * behind, 10 + 2 * before + 1))


@torch.no_grad()
def test_a_window_as_long_as_the_text_is_none():
    superlm = superlm_of("llama", window=(12, None))
    _, _, batch = own_inputs(superlm, superlm.sub_space.largest, torch.Generator().manual_seed(0))
    student = superlm.sub_space.largest
    wide = superlm.forward(replace(student, window=12), batch, output=True).output
    torch.testing.assert_close(wide, superlm.forward(student, batch, output=True).output)


def test_training_draws_windows_of_the_same_weights():
    superlm = superlm_of("llama")
    space = superlm.sub_space
    assert {student.window for student in space.architectures} == {None}
    drawn = [student for step in range(20) for student in draw_students(space, RECIPE, step)]
    assert {(student.window, student.global_every) for student in drawn} == {(4, 2), (6, 2), (None, None)}
    student = next(one for one in space.students if one.window)
    ours, whole = superlm.weights(student), superlm.weights(student.architecture)
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("config", [MistralConfig(pad_token_id=0), MinistralConfig(pad_token_id=0, sliding_window=8)])
def test_mistral_and_ministral_are_teachers(config):
    check_family(config)


# ---- ids, files


def test_students_without_a_window_are_listed_once():
    space = SearchSpace("x", "", (small_space(None).with_axes(**BOTH),))
    labels = {student.label for student in space.sub_spaces[0].students}
    assert {"L2-H32-A2-F32", "L2-H32-A2-F32-G2-W4", "L2-H32-A2-F32-G2-W6"} <= labels
    assert len(labels) == 3 * len(space.sub_spaces[0].architectures)
    assert space_from_dict(space_to_dict(space), "copy") == space
    for candidate in space.candidates:
        assert StudentConfig.of_label(candidate.config.label) == candidate.config
        assert space.candidate(candidate.id) == candidate


# ---- costs


@pytest.mark.parametrize("kind", slow_but(("llama",), KINDS))
def test_masked_scores_cost_what_others_do(kind):
    superlm = superlm_of(kind)
    shape = random_teacher(kind).encoder_shape
    for student in superlm.sub_space.students[1::30]:
        assert flops([student], shape, 24)[0] == count_flops(superlm.meta_model(student), 24)


@pytest.mark.parametrize("kind", slow_but(("llama",), ("llama", "llama-ungrouped", "qwen2", "qwen3")))
@torch.no_grad()
def test_the_cache_is_what_transformers_keeps(kind):
    """That keeps one token less of a window, as the next one comes before it is asked."""
    superlm, shape = superlm_of(kind), random_teacher(kind).encoder_shape
    for student in superlm.sub_space.students[::17]:
        model = superlm.extract(student).half()
        cache = model(torch.randint(3, 97, (1, 12)), use_cache=True).past_key_values
        kept = sum(part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values))
        assert kept + kv_bytes([student], shape)[0] == cache_bytes([student], shape, 13)[0]


@given(st.integers(1, 40), st.integers(2, 40), st.sampled_from([None, 1, 2, 3, 9]), st.integers(1, 6))
def test_the_cache_by_hand(length, window, every, layers):
    student = StudentConfig(layers, 32, 4, 16, 64, window=window, global_every=every)
    shape = random_teacher("llama").encoder_shape
    tokens = sum(length if every and layer % every == 0 else min(window, length) for layer in range(layers))
    assert cache_bytes([student], shape, length)[0] == tokens * 2 * 2 * 16 * 2


def test_budgets_of_the_cache():
    budget = read_budget("2KBcache@1024")
    assert (budget.cost, budget.limit, budget.seq_len, budget.column) == ("cache_bytes", 2000, 1024, "cache_bytes@1024")
    small, large = (StudentConfig(4, 64, 4, 16, 128, window=window) for window in (4, None))
    shape = random_teacher("llama").encoder_shape
    assert budget_cost(budget, [small, large], shape, 12).tolist() == [4 * 4 * 128, 4 * 40 * 128]
    with pytest.raises(BudgetError, match="got 2KBcache for an encoder"):
        budget_cost(read_budget("2KBcache"), [small], random_teacher("bert").encoder_shape, 12)


# ---- refusals


@pytest.mark.parametrize(
    ("config", "axes", "message"),
    [
        (FAMILY_CONFIGS["bert"](), {"window": (8,)}, "window: got it for bert; allowed: modernbert teachers and dec"),
        (FAMILY_CONFIGS["modernbert"](), {"window": (6, 7)}, "window: got 7; allowed: even numbers"),
        (FAMILY_CONFIGS["modernbert"](), BOTH, "global_every: got it for modernbert; allowed: decoders"),
        (DECODER_CONFIGS["llama"](), {"global_every": (2,)}, "global_every: got no window beside it"),
        (DECODER_CONFIGS["llama-biases"](), {"window": (8,)}, "a llama teacher with attention_bias = true; allowed"),
    ],
)
def test_windows_that_no_model_has_are_refused(config, axes, message):
    space = SearchSpace("x", "", (small_space(None).with_axes(**axes),))
    with pytest.raises(SpaceError, match=message) as error:
        family_of(config).check_space(space, config)
    assert "\n" not in str(error.value)


def test_a_teacher_without_local_layers_has_no_window():
    config = FAMILY_CONFIGS["modernbert"]()
    config.layer_types = ["full_attention"] * 4
    with pytest.raises(SpaceError, match="a modernbert teacher with global layers alone"):
        MODERNBERT.check_space(SearchSpace("x", "", (small_space(None).with_axes(window=(8,)),)), config)


def test_the_teachers_own_window_is_what_whole_stands_for():
    assert random_teacher("modernbert").encoder_shape.window == 8
    assert random_teacher("llama").encoder_shape.window == 40
    assert teacher_of(MistralConfig(pad_token_id=0, sliding_window=6)).encoder_shape.window == 6
    assert LLAMA.windows.of(DECODER_CONFIGS["llama"]()) is None


# ---- long texts


@pytest.mark.parametrize(("kind", "axes"), [("modernbert", {"window": (8,)}), ("llama", {"window": (5,)})])
def test_local_attention_by_blocks_is_that_of_the_whole_text(kind, axes, monkeypatch):
    """States and gradients, of texts with padding and without."""
    superlm = superlm_of(kind, **axes)
    student = superlm.sub_space.students[-1]
    ids = torch.randint(3, 97, (2, 39), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    for batch in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": mask}):
        found = []
        for block in (512, 6):
            monkeypatch.setattr(attention, "_LOCAL_BLOCK", block)
            leaves = superlm.leaf_weights(student, None)
            output = superlm.forward(student, batch, leaves, output=True).output
            output = output[mask == 1] if "attention_mask" in batch else output
            output.square().mean().backward()
            found.append((output.detach(), [leaf.grad for leaf in leaves.values() if leaf.grad is not None]))
        (whole, gradients), (blocks, others) = found
        torch.testing.assert_close(blocks, whole, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(others, gradients, rtol=1e-4, atol=1e-6)


def test_local_attention_of_long_texts_makes_no_scores_of_all_pairs(monkeypatch):
    shapes = []
    plain = attention.sdpa_attention_forward
    monkeypatch.setattr(attention, "_LOCAL_BLOCK", 6)
    monkeypatch.setattr(
        attention,
        "sdpa_attention_forward",
        lambda m, q, k, *a, **o: shapes.append(k.shape[2]) or plain(m, q, k, *a, **o),
    )
    superlm = superlm_of("llama", window=(5,))
    superlm.forward(superlm.sub_space.students[-1], {"input_ids": torch.randint(3, 97, (1, 39))}, output=True)
    assert max(shapes) == 6 + 4
