"""Decoders: grouped queries, causal relations, the language-model head, the cache of keys and values."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from autodistil_helpers import DECODER_CONFIGS, RECIPE, objective_of, random_teacher, small_space
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, Qwen2Config
from variants import slow_but

from autodistil.costs.budget import read_budget
from autodistil.costs.closed_form import budget_cost, cost_table, flops, parameters
from autodistil.costs.fvcore_check import count_flops
from autodistil.errors import BudgetError, ConfigError, SpaceError, TeacherError
from autodistil.evaluation.heldout import HeldOut
from autodistil.export.family_contract import CLAUSES, check_family
from autodistil.models.families import family_of
from autodistil.models.families.bert import BERT
from autodistil.models.families.llama import LLAMA, QWEN2, QWEN3
from autodistil.models.ordering import ORDERS, apply_order
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import check_teacher
from autodistil.objectives.logits import divergence_of_logits
from autodistil.objectives.logits_js import js
from autodistil.objectives.logits_kl import kl
from autodistil.objectives.logits_reverse_kl import reverse_kl
from autodistil.objectives.next_token import next_token_nats
from autodistil.objectives.objective import resolve_objective
from autodistil.space.files import load_space
from autodistil.space.fit import auto_space
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import Candidate, StudentConfig
from autodistil.training.trainer import SuperLMTrainer

DECODER_OBJECTIVE = "relation-kl+logits-kl+next-token"


@pytest.fixture(params=sorted(DECODER_CONFIGS))
def teacher(request):
    return random_teacher(request.param)


def batch_of(length=12):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 97, (3, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def causal_objective(text, relation_heads=4):
    objective = objective_of(text, relation_heads)
    return replace(objective, options=replace(objective.options, causal=True))


def random_hidden(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- the contract


@pytest.mark.parametrize("kind", slow_but(["llama", "qwen3"], sorted(DECODER_CONFIGS)))
def test_tables_keep_the_contract(kind):
    assert check_family(DECODER_CONFIGS[kind]()) == tuple(CLAUSES)


@pytest.mark.parametrize("groups", slow_but([3], [1, 3, 9]))
def test_the_contract_holds_whatever_shares_keys_and_values(groups):
    config = LlamaConfig(hidden_size=144, num_attention_heads=9, num_key_value_heads=groups, num_hidden_layers=2)
    assert check_family(config) == tuple(CLAUSES)


@torch.no_grad()
def test_students_reload_and_generate(teacher, tmp_path):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student, batch = superlm.sub_space.smallest, batch_of()
    superlm.extract(student).save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    states = superlm.forward(student, batch, output=True)
    torch.testing.assert_close(reloaded(**batch).logits, states.output @ states.head.T, rtol=0, atol=1e-5)
    assert reloaded.config.use_cache
    answer = reloaded.generate(batch["input_ids"][:1], max_new_tokens=4, do_sample=False, pad_token_id=0)
    greedy = batch["input_ids"][:1]
    for _ in range(4):
        logits = superlm.forward(student, {"input_ids": greedy}, output=True)
        greedy = torch.cat([greedy, (logits.output[:, -1] @ logits.head.T).argmax(-1, keepdim=True)], 1)
        if int(greedy[0, -1]) == reloaded.config.eos_token_id:
            break
    assert torch.equal(answer, greedy)
    body = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(body(**batch).last_hidden_state, states.output, rtol=0, atol=1e-5)


@torch.no_grad()
def test_students_of_full_size_are_the_teacher(teacher):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    ours, theirs = superlm.forward(teacher.dims, batch_of(), output=True), teacher.states(batch_of(), output=True)
    assert torch.equal(ours.output, theirs.output)
    assert torch.equal(ours.head, theirs.head)
    for mine, other in zip(ours.attention, theirs.attention, strict=True):
        assert torch.equal(mine, other)


@torch.no_grad()
def test_captured_values_are_the_projection_of_the_layer(teacher):
    seen = []
    module = teacher.model.get_submodule("layers.1.self_attn.v_proj")
    hook = module.register_forward_hook(lambda _m, _i, out: seen.append(out))
    states = teacher.states(batch_of(), layer=1)
    hook.remove()
    assert torch.equal(states.attention.value, seen[0].unflatten(-1, (-1, 16)).transpose(1, 2))
    assert states.attention.query.shape[1] == 4
    assert states.attention.key.shape[1] == teacher.model.config.num_key_value_heads


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_groups_are_ranked_and_the_function_kept(name, teacher):
    order = ORDERS[name](teacher, [{"input_ids": batch_of()["input_ids"]}]).order()
    assert order.num_heads.shape == (4, teacher.model.config.num_key_value_heads)
    ordered = apply_order(teacher, order)
    ours, theirs = ordered.states(batch_of(), output=True), teacher.states(batch_of(), output=True)
    torch.testing.assert_close(ours.output, theirs.output[..., order.hidden_size], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.output @ ours.head.T, theirs.output @ theirs.head.T, rtol=0, atol=1e-4)


def test_students_take_whole_groups():
    """Of two heads of keys and values a student of two query heads keeps the first, and the two queries of it."""
    teacher = random_teacher("llama")
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student = StudentConfig(4, 64, 2, 16, 128)
    weights, theirs = superlm.weights(student), dict(teacher.model.named_parameters())
    for name, rows in (("q_proj", 32), ("k_proj", 16), ("v_proj", 16)):
        full = f"layers.0.self_attn.{name}.weight"
        assert torch.equal(weights[full], theirs[full][:rows])
    assert superlm.student_config(student).num_key_value_heads == 1


# ---- gradients


@pytest.mark.parametrize("objective", ["relation-kl", "logits-kl", DECODER_OBJECTIVE])
def test_leaves_carry_the_gradients_of_views(teacher, objective):
    objective, batch = causal_objective(objective), batch_of()
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student, mask = superlm.sub_space.smallest, batch["attention_mask"].bool()
    theirs = teacher.states(batch, output=True)
    objective(superlm.forward(student, batch, output=True), theirs, mask).backward()
    expected = {name: parameter.grad for name, parameter in superlm.parameters.items()}
    for parameter in superlm.parameters.values():
        parameter.grad = None
    rows = superlm.token_rows(batch)
    leaves = superlm.leaf_weights(student, rows, head=objective.needs_head)
    objective(superlm.forward(student, rows.batch, leaves, output=True), theirs, mask).backward()
    superlm.accumulate(student, leaves, rows)
    for name, parameter in superlm.parameters.items():
        if expected[name] is None:
            assert parameter.grad is None, name
        else:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("in_place", [False, True])
def test_training_lowers_the_perplexity_of_a_teachers_text(in_place):
    """Ids that the teacher finds likely: its own next tokens."""
    teacher, texts = random_teacher("llama"), np.random.default_rng(0).integers(3, 97, (6, 12))
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    objective = causal_objective("next-token")
    heldout = HeldOut.build(teacher, texts, objective)
    recipe = replace(RECIPE, in_place=in_place)
    trainer = SuperLMTrainer(superlm, recipe, objective)
    before = heldout.loss(superlm, superlm.sub_space.largest)
    batch = {"input_ids": torch.from_numpy(texts)}
    for _ in range(4):
        trainer.add_gradients(batch, teacher.states(batch, output=True))
        trainer.update()
    assert heldout.loss(superlm, superlm.sub_space.largest) < before


# ---- losses of next tokens


def plain_kl(of, other):
    return (of * (of / other).log()).sum(-1).mean()


PLAIN = {
    kl: lambda q, p: plain_kl(p, q),
    reverse_kl: plain_kl,
    js: lambda q, p: (plain_kl(p, (p + q) / 2) + plain_kl(q, (p + q) / 2)) / 2,
}
"""Comparison of logits -> its formula, of the student's probabilities and the teacher's."""


@pytest.mark.parametrize("compare", PLAIN)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), tokens=st.integers(1, 9), entries=st.sampled_from([1, 30, 1 << 20]))
def test_divergences_of_logits_equal_float64_autograd(compare, seed, tokens, entries):
    sizes = ((tokens, 5), (11, 5), (tokens, 7), (11, 7))
    hidden, head, *theirs = (random_hidden(seed + i, *shape) for i, shape in enumerate(sizes))
    exact = [part.double().requires_grad_() for part in (hidden, head)]
    target = (theirs[0].double() @ theirs[1].double().T).softmax(-1)
    expected = PLAIN[compare]((exact[0] @ exact[1].T).softmax(-1), target)
    expected.backward()
    leaves = [part.clone().requires_grad_() for part in (hidden, head)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autodistil.objectives.logits._CHUNK_ENTRIES", {"cpu": entries})
        loss = divergence_of_logits(compare, *leaves, *theirs)
    (3 * loss).backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    for leaf, reference in zip(leaves, exact, strict=True):
        torch.testing.assert_close(leaf.grad.double(), 3 * reference.grad, rtol=1e-4, atol=1e-5)


def test_js_of_beta_is_that_of_gkd(monkeypatch):
    """Near 0 and 1 it is KL(p || q) and KL(q || p), over the factor that goes to zero (GKD, section 3)."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 3, 11, dtype=torch.double, generator=generator).log_softmax(-1)
    for beta, factor, near in ((1e-4, 1e-4, kl), (1 - 1e-4, 1e-4, reverse_kl)):
        monkeypatch.setattr("autodistil.objectives.logits_js.BETA", beta)
        found, expected = js(ours.clone(), theirs.clone()), near(ours.clone(), theirs.clone())
        torch.testing.assert_close(found[0] / factor, expected[0], rtol=2e-3, atol=0)
        torch.testing.assert_close(found[1] / factor, expected[1], rtol=2e-2, atol=1e-4)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.integers(1, 9), st.sampled_from([1, 30, 1 << 20]))
def test_next_token_nats_are_the_cross_entropy(seed, tokens, entries):
    hidden, head = random_hidden(seed, tokens, 5), random_hidden(seed + 1, 11, 5)
    ids = torch.randint(11, (tokens,), generator=torch.Generator().manual_seed(seed))
    exact = [part.double().requires_grad_() for part in (hidden, head)]
    expected = torch.nn.functional.cross_entropy(exact[0] @ exact[1].T, ids)
    expected.backward()
    leaves = [part.clone().requires_grad_() for part in (hidden, head)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autodistil.objectives.logits._CHUNK_ENTRIES", {"cpu": entries})
        loss = next_token_nats(*leaves, ids)
    loss.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    for leaf, reference in zip(leaves, exact, strict=True):
        torch.testing.assert_close(leaf.grad.double(), reference.grad, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_held_out_loss_is_that_of_the_model_itself(tmp_path):
    """Hugging Face's own loss of the extracted student."""
    teacher, texts = random_teacher("qwen2"), np.random.default_rng(0).integers(3, 97, (4, 12))
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student, ids = superlm.sub_space.smallest, torch.from_numpy(texts)
    expected = float(superlm.extract(student)(input_ids=ids, labels=ids).loss)
    heldout = HeldOut.build(teacher, texts, causal_objective("next-token"))
    assert heldout.loss(superlm, student) == pytest.approx(expected, rel=1e-5)
    assert heldout.mean_of(lambda batch: teacher.states(batch, output=True)) != pytest.approx(expected)


@torch.no_grad()
def test_causal_relations_do_not_look_ahead():
    teacher = random_teacher("llama")
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    batch, objective = {"input_ids": batch_of()["input_ids"]}, causal_objective("relation-kl")
    student = superlm.sub_space.smallest
    states = [
        run({"input_ids": batch["input_ids"][:, :8]}) for run in (teacher.states, lambda b: superlm.forward(student, b))
    ]
    whole = [run(batch) for run in (teacher.states, lambda b: superlm.forward(student, b))]
    cut = [
        replace(s, attention=replace(s.attention, **{k: v[:, :, :8] for k, v in vars(s.attention).items()}))
        for s in whole
    ]
    torch.testing.assert_close(objective(states[1], states[0]), objective(cut[1], cut[0]))


# ---- objectives and spaces


def test_decoders_get_logits_and_relations_by_default():
    assert resolve_objective("auto", None, 192, [64, 128], causal=True).name == "relation-kl+logits-kl"
    with pytest.raises(ConfigError, match="'logits-kl' is for decoders"):
        resolve_objective("logits-kl", None, 64, [64])


def test_the_shipped_space_fits_smollm2():
    config = LlamaConfig(
        hidden_size=576, num_attention_heads=9, num_key_value_heads=3, num_hidden_layers=30, intermediate_size=1536
    )
    space = load_space("smollm2-135m")
    LLAMA.check_space(space, config)
    assert {student.num_heads for sub in space.sub_spaces for student in sub.students} == {3, 6, 9}
    assert f"{len(space.candidates)} students" in space.description


def test_derived_spaces_have_whole_groups():
    teacher = StudentConfig(12, 896, 14, 64, 4864)
    space = auto_space(teacher, queries_per_kv=7)
    assert {student.num_heads for sub in space.sub_spaces for student in sub.students} == {7, 14}
    QWEN2.check_space(space, Qwen2Config(num_attention_heads=14, num_key_value_heads=2, hidden_size=896))


def space_of(free_attention=False, **axes):
    base = {"num_layers": (2,), "hidden_size": (32,), "num_heads": (2,), "mlp_ratio": (1.0,)}
    return SearchSpace("s", "", (SubSpace("s", {**base, **axes}, free_attention),))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"num_heads": (2, 4)}, r"num_heads: got 2; allowed: multiples of 4, the query heads that share keys"),
        ({"num_heads": (4,), "vocab_size": (50,)}, "vocab_size: got it for llama; allowed: encoders"),
        (
            {"num_heads": (12,), "head_size": (4,), "free_attention": True},
            "hidden_size: got 32 with 12 heads; allowed: a multiple of the heads",
        ),
    ],
)
def test_spaces_that_decoders_cannot_have_are_refused(axes, message):
    config = LlamaConfig(num_attention_heads=4, num_key_value_heads=1, hidden_size=64)
    with pytest.raises(SpaceError, match=message):
        LLAMA.check_space(space_of(**axes), config)


def test_free_attention_needs_a_head_size_in_the_config():
    with pytest.raises(SpaceError, match="free_attention: got it for qwen2"):
        QWEN2.check_space(space_of(head_size=(8,), free_attention=True))


# ---- bad teachers


@pytest.mark.parametrize("family", [LLAMA, QWEN2, QWEN3])
def test_heads_of_keys_and_values_must_divide(family):
    config = DECODER_CONFIGS[family.model_types[0]]()
    config.num_key_value_heads = 3
    with pytest.raises(
        TeacherError, match=r"num_key_value_heads = 3 .* does not divide num_attention_heads = 4"
    ) as error:
        family.dimensions(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_decoder_that_looks_ahead_is_refused(kind, monkeypatch):
    teacher = random_teacher(kind)
    check_teacher(teacher)
    plain = teacher.model.forward

    def both_ways(input_ids, **_):
        return plain(input_ids=input_ids, attention_mask=torch.ones(len(input_ids), 1, 8, 8, dtype=torch.bool))

    monkeypatch.setattr(teacher.model, "forward", both_ways)
    with pytest.raises(TeacherError, match="is a decoder without causal mask") as error:
        check_teacher(teacher)
    assert "\n" not in str(error.value)


# ---- costs


def test_costs_of_grouped_queries_by_hand():
    """SmolLM2-135M, whose parameters its model card counts as 134.5 M."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        num_attention_heads=9,
        num_key_value_heads=3,
        num_hidden_layers=30,
        intermediate_size=1536,
        tie_word_embeddings=True,
    )
    dims, shape = family_of(config).dimensions(config), family_of(config).encoder_shape(config, False)
    assert parameters([dims], shape) == [134_515_008]
    layer = 576 * (576 + 192 + 192 + 576 + 3 * 1536)
    assert flops([dims], shape, 128) == [30 * (128 * layer + 2 * 128**2 * 576) + 576 * 49152]
    assert cost_table([Candidate("s", dims)], shape, 128)["kv_bytes"].tolist() == [2 * 30 * 3 * 64 * 2]


def test_prefill_is_counted_with_the_head(teacher):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    for student in superlm.sub_space.students[::7]:
        model = superlm.extract(student)
        assert flops([student], teacher.encoder_shape, 24)[0] == count_flops(model, 24)
        assert parameters([student], teacher.encoder_shape)[0] == sum(p.numel() for p in model.parameters())


@torch.no_grad()
def test_the_cache_takes_what_the_closed_form_says(teacher):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student = superlm.sub_space.smallest
    cache = superlm.extract(student).half()(batch_of()["input_ids"][:1], use_cache=True).past_key_values
    tensors = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    budget = read_budget("1KBkv")
    ours = budget_cost(budget, [student], teacher.encoder_shape, 24)
    assert ours == [sum(part.numel() * part.element_size() for part in tensors) / 12]


def test_cache_budgets():
    budget = read_budget(" 12 kbKV ")
    assert (budget.cost, budget.limit, budget.seq_len) == ("kv_bytes", 12_000, None)
    config = random_teacher("bert").model.config
    with pytest.raises(BudgetError, match="got 12KBkv for an encoder"):
        budget_cost(read_budget("12KBkv"), [BERT.dimensions(config)], BERT.encoder_shape(config, True), 8)
    with pytest.raises(BudgetError, match="@ after FLOPs and Bcache only"):
        read_budget("12KBkv@128")
