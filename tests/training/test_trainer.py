"""Training: sandwich draws, independence of SuperLMs, exact resume, accumulation, learning-rate schedule."""

import json
from dataclasses import replace

import pytest
import torch
from autodistil_helpers import RECIPE, objective_of, random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from autodistil.errors import RunError
from autodistil.models.superlm import SuperLM
from autodistil.space.space import size_key
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS, load_weights, restore_checkpoint, save_checkpoint
from autodistil.training.metrics import MetricsLog, read_metrics
from autodistil.training.recipe import rate_at
from autodistil.training.sampling import SAMPLINGS
from autodistil.training.trainer import SuperLMTrainer, train, train_step

TEACHER = random_teacher("bert")


def trainer_of(name="small", recipe=RECIPE):
    superlm = SuperLM.from_teacher(TEACHER, small_space(TEACHER, name))
    return SuperLMTrainer(superlm, recipe, objective_of("relation-kl"))


def micro_batches(step, parts=1):
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(3, 97, (4, 10), generator=generator)
    return iter([{"input_ids": part} for part in ids.chunk(parts)])


def weights(trainer):
    return {name: value.clone() for name, value in trainer.superlm.state_dict().items()}


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def run(trainers, on_step=lambda rows: None, **kwargs):
    train(trainers, TEACHER, micro_batches, on_step, **kwargs)


def test_training_lowers_the_loss_on_one_batch():
    trainer = trainer_of(recipe=replace(RECIPE, steps=30, learning_rate=3e-3, random_students=0))
    rows = [train_step([trainer], TEACHER, micro_batches(0), None)[0] for _ in range(30)]
    assert rows[-1].smallest_loss < 0.8 * rows[0].smallest_loss


def test_bf16_follows_fp32():
    exact, rounded = trainer_of(), trainer_of(recipe=replace(RECIPE, precision="bf16"))
    losses = {}
    for trainer in (exact, rounded):
        rows = losses[trainer.recipe.precision] = []
        run([trainer], on_step=lambda step, rows=rows: rows.append(step[0].loss))
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1)
    assert all(value.dtype == torch.float32 for value in rounded.superlm.state_dict().values())


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_resumed_training_is_bit_identical(tmp_path, stop_at):
    whole = trainer_of()
    run([whole])

    half = trainer_of()
    run([half], should_stop=lambda: half.steps_done == stop_at)
    save_checkpoint(half, tmp_path)
    resumed = trainer_of()
    assert restore_checkpoint(resumed, tmp_path) == stop_at
    run([resumed])
    assert_equal(weights(resumed), weights(whole))


def test_superlms_train_alike_together_and_apart():
    together = [trainer_of("a"), trainer_of("b")]
    run(together)
    apart = [trainer_of("a"), trainer_of("b")]
    for trainer in apart:
        run([trainer])
    for one, other in zip(together, apart, strict=True):
        assert_equal(weights(one), weights(other))
    assert any(
        not torch.equal(x, y) for x, y in zip(weights(apart[0]).values(), weights(apart[1]).values(), strict=True)
    )


def test_superlms_that_stand_at_different_steps_end_as_if_they_had_not():
    expected = trainer_of("a")
    run([expected])
    ahead, behind = trainer_of("a"), trainer_of("b")
    run([ahead], should_stop=lambda: ahead.steps_done == 4)
    order = []
    run([ahead, behind], on_step=lambda rows: order.append([(row.sub_space, row.step) for row in rows]))
    assert_equal(weights(ahead), weights(expected))
    assert order == [[("b", 1)], [("b", 2)], [("b", 3)], [("b", 4)], [("a", 5), ("b", 5)], [("a", 6), ("b", 6)]]


def test_parameters_without_gradient_are_not_decayed():
    trainer = trainer_of()
    name = f"encoder.layer.{TEACHER.dims.num_layers - 1}.output.dense.weight"
    before = trainer.superlm.parameters[name].detach().clone()
    run([trainer])
    assert torch.equal(trainer.superlm.parameters[name], before)


def test_finished_training_leaves_weights_and_no_checkpoint(tmp_path):
    trainer = trainer_of()
    run([trainer], should_stop=lambda: trainer.steps_done == 2)
    save_checkpoint(trainer, tmp_path)
    run([trainer])
    save_checkpoint(trainer, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {WEIGHTS, f".{WEIGHTS}.sum"}
    fresh = trainer_of()
    assert load_weights(fresh.superlm, tmp_path) == RECIPE.steps
    assert_equal(weights(fresh), weights(trainer))


@pytest.mark.parametrize("damage", ["truncated", "garbage", "no steps", "another superlm"])
def test_damaged_checkpoints_are_refused(tmp_path, damage):
    trainer = trainer_of()
    run([trainer], should_stop=lambda: trainer.steps_done == 1)
    save_checkpoint(trainer, tmp_path)
    path = tmp_path / CHECKPOINT
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "garbage":
        path.write_bytes(b"garbage")
    elif damage == "no steps":
        save_file(load_file(path), path)
    else:
        tensors = load_file(path)
        tensors["weights/embeddings.LayerNorm.bias"] = torch.zeros(3)
        save_file(tensors, path, metadata={"steps": "1"})
    with pytest.raises(RunError, match=r"checkpoint\.safetensors"):
        restore_checkpoint(trainer_of(), tmp_path)


def test_a_failed_write_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    trainer = trainer_of()
    run([trainer], should_stop=lambda: trainer.steps_done == 1)
    save_checkpoint(trainer, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("autodistil.training.checkpoint.save_file", full)
    run([trainer], should_stop=lambda: trainer.steps_done == 2)
    with pytest.raises(RunError, match=r"disk is full.*--resume"):
        save_checkpoint(trainer, tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, f".{CHECKPOINT}.sum"}


def test_in_place_the_smaller_students_learn_from_the_largest():
    """One step equals the sum of the gradients taken by hand against the largest student's states."""
    recipe = replace(RECIPE, in_place=True)
    trainer, reference = trainer_of(recipe=recipe), trainer_of().superlm
    batch = next(micro_batches(0))
    teacher_states = TEACHER.states(batch)
    students = trainer.students()
    trainer.add_gradients(batch, teacher_states)
    objective = trainer.objective
    largest = reference.forward(students[0], batch)
    losses = [objective(largest, teacher_states)]
    losses += [objective(reference.forward(student, batch), largest.detach()) for student in students[1:]]
    torch.stack(losses).mean().backward()
    for name, parameter in trainer.superlm.parameters.items():
        expected = reference.parameters[name].grad
        assert (parameter.grad is None) == (expected is None)
        if expected is not None:
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_largest_and_the_smallest_loss_are_those_of_the_largest_and_smallest_drawn(sampling):
    trainer = trainer_of(recipe=replace(RECIPE, sampling=sampling))
    for step in range(3):
        reference = trainer_of(recipe=trainer.recipe)
        reference.superlm.load_state_dict(trainer.superlm.state_dict())
        batch, students = next(micro_batches(step)), sorted(trainer.students(), key=size_key)
        with torch.no_grad():
            losses = [
                float(reference.objective(reference.superlm.forward(student, batch), TEACHER.states(batch)))
                for student in students
            ]
        (row,) = train_step([trainer], TEACHER, micro_batches(step), None)
        assert [row.smallest_loss, row.largest_loss] == pytest.approx([losses[0], losses[-1]], rel=1e-4, abs=1e-7)


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_learning_rate_rises_then_falls_and_is_never_zero(steps, warmup):
    recipe = replace(RECIPE, steps=steps, warmup=warmup)
    shares = [recipe.rate_share(step) for step in range(steps)]
    peak = shares.index(max(shares))
    assert shares[:peak] == sorted(shares[:peak])
    assert shares[peak:] == sorted(shares[peak:], reverse=True)
    assert 0 < min(shares) <= max(shares) <= 1


def test_learning_rate_goes_by_the_largest_width_unless_given(monkeypatch):
    assert [rate_at(width) for width in (96, 192, 384, 768)] == [1e-3, 1e-3, 5e-4, 2.5e-4]
    monkeypatch.setattr("autodistil.training.recipe.HIGHEST_RATE", 1.0)  # widths of this test are below it
    for asked, expected in ((None, rate_at(64)), (3e-4, 3e-4)):
        trainer = trainer_of(recipe=replace(RECIPE, learning_rate=asked, warmup=0.0))
        assert {student.hidden_size for student in trainer.students()} == {32, 64}
        (row,) = train_step([trainer], TEACHER, micro_batches(0), None)
        assert row.lr == expected


def test_metrics_are_cut_where_training_resumes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, {})
    trainer = trainer_of()
    run([trainer], on_step=log.append)
    log.close()
    with open(path, "a") as file:
        file.write('{"half')
    resumed = MetricsLog(path, {"small": 4})
    resumed.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4]
    assert json.loads(path.read_text().splitlines()[-1])["sub_space"] == "small"
