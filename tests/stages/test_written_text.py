"""Decoders trained on text that models write: the teacher's, kept in the run, and the student's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from autodistil_helpers import RECIPE, objective_of, random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st
from run_helpers import DECODER_SPACE, run_options, save_llama, train_in_two
from tokenizers_helpers import byte_level_bpe

from autodistil import pipeline
from autodistil.cli.plan import print_plan
from autodistil.errors import ConfigError, RunError
from autodistil.models.generation import rewritten
from autodistil.models.superlm import SuperLM
from autodistil.run.run import Run
from autodistil.run.teacher_text import BLOCK
from autodistil.stages.planning import Work, plan_search
from autodistil.stages.training import train_on_cluster
from autodistil.training.on_policy import is_on_policy, own_texts
from autodistil.training.trainer import SuperLMTrainer, train
from autodistil.utils import evenly

TEACHER = random_teacher("llama")


def texts_of(step, seq=12):
    return torch.randint(3, 97, (4, seq), generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@torch.no_grad()
def test_a_model_goes_on_as_its_own_distribution_says(kind):
    """The same draws from logits of the whole text so far, without a cache."""
    teacher, texts = random_teacher(kind), texts_of(0)
    found = rewritten(teacher.model, teacher.head, texts, torch.Generator().manual_seed(5))
    generator, expected = torch.Generator().manual_seed(5), texts[:, :3]
    for _ in range(9):
        states = teacher.states({"input_ids": expected}, output=True)
        logits = states.output[:, -1] @ states.head.T
        expected = torch.cat([expected, torch.multinomial(logits.softmax(-1), 1, generator=generator)], 1)
    assert torch.equal(found, expected)
    assert rewritten(teacher.model, teacher.head, texts[:, :2], generator).shape == (4, 2)


@given(st.floats(0, 40), st.integers(0, 500))
def test_shares_of_steps_are_even(each, step):
    due = [evenly(each, one) - evenly(each, one - 1) for one in range(step + 1)]
    assert sum(due) == evenly(each, step)
    assert {int(each), int(each) + 1} >= set(due)


# ---- on-policy


def trainer_of(on_policy, name="small", **recipe):
    superlm = SuperLM.from_teacher(TEACHER, small_space(TEACHER, name))
    return SuperLMTrainer(superlm, replace(RECIPE, on_policy=on_policy, **recipe), objective_of("logits-kl"))


def trained(trainers, steps=RECIPE.steps, batches=lambda step: iter([{"input_ids": texts_of(step)}])):
    train(trainers, TEACHER, batches, lambda rows: None, None, lambda: trainers[0].steps_done == steps)
    return [trainer.superlm.state_dict() for trainer in trainers]


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_an_on_policy_step_is_a_step_on_what_the_largest_student_writes():
    trainer, plain = trainer_of(1.0), trainer_of(0.0)
    batch = {"input_ids": texts_of(0)}
    (own,) = own_texts(plain.superlm, [batch], trainer.recipe, 0)
    model = plain.superlm.extract(plain.superlm.sub_space.largest)
    assert torch.equal(own["input_ids"][:, :3], batch["input_ids"][:, :3])
    assert not torch.equal(own["input_ids"], batch["input_ids"])
    assert own["input_ids"].max() < model.config.vocab_size
    assert_equal(trained([trainer], 1)[0], trained([plain], 1, lambda step: iter([own]))[0])


def test_a_share_of_the_steps_is_on_policy():
    recipe = replace(RECIPE, on_policy=0.5)
    assert [is_on_policy(recipe, step) for step in range(6)] == [False, True] * 3
    assert not any(is_on_policy(RECIPE, step) for step in range(6))


def test_each_superlm_writes_for_itself_whatever_is_trained_beside_it():
    names = ("a", "b")
    together = trained([trainer_of(0.5, name) for name in names])
    apart = [trained([trainer_of(0.5, name)])[0] for name in names]
    for ours, theirs in zip(together, apart, strict=True):
        assert_equal(ours, theirs)
    other = trained([trainer_of(0.5, seed=1, random_students=0)])[0]
    assert any(not torch.equal(value, other[name]) for name, value in together[0].items())


# ---- whole runs


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    folder = tmp_path_factory.mktemp("decoder")
    more = {"train_steps": 4, "checkpoint_seconds": 0.0, "batch_size": 4, "teacher_text": 0.4, "on_policy": 0.5}
    options = run_options(folder, quickstart_teacher_dir, DECODER_SPACE, **more)
    tokenizer = byte_level_bpe()
    return {**options, "teacher": save_llama(folder / "llama", tokenizer, vocab_size=len(tokenizer))}


def test_a_plan_counts_the_steps_whose_text_is_written(options, tmp_path, capsys):
    with Run.open(tmp_path / "run", {**options, "refine_top": 2, "refine_steps": 3}).only_read() as run:
        plan = plan_search(run)
    assert plan.writing.count == 4 + 3  # finalists read one text
    assert plan.writing.seconds == plan.writing.count * plan.writing.seconds_each > 0
    assert plan.seconds == sum(work.seconds for work in (plan.training, plan.writing, plan.scoring, plan.refining))
    print_plan(plan)
    assert "the teacher's text: 7 steps of about " in capsys.readouterr().out
    with Run.open(tmp_path / "run", {**options, "teacher_text": 0.0}).only_read() as run:
        assert plan_search(run).writing == Work(0, None)


def test_a_share_of_the_text_is_the_teachers_and_is_written_once(options, tmp_path, monkeypatch):
    said = []
    run = Run.open(tmp_path / "run", options)
    run.inputs.progress.say = said.append
    run.inputs.write_record()
    text = run.inputs.text
    steps = range(BLOCK + 2)
    theirs = [text.corpus_samples(step) for step in steps]
    ours = [text.step_samples(step) for step in steps]
    changed = [(a != b).any(1).sum() for a, b in zip(ours, theirs, strict=True)]
    assert changed == [1, 2, 1, 2, 2, 1, 2, 1, 2, 2]  # 0.4 of 4 sequences
    assert all(np.array_equal(a[:, :4], b[:, :4]) for a, b in zip(ours, theirs, strict=True))
    assert [line for line in said if "the teacher wrote the ends of 12 texts of 16 tokens" in line] == said[-1:]
    assert sorted(path.name for path in run.folder.teacher_text_path.glob("*.npy")) == ["00000000.npy", "00000008.npy"]
    monkeypatch.setattr("autodistil.run.teacher_text.rewritten", lambda *_: pytest.fail("written again"))
    again = Run.open(tmp_path / "run").inputs.text
    for step in reversed(steps):
        assert np.array_equal(again.step_samples(step), ours[step])
    path = run.folder.teacher_text_path / "00000008.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RunError, match="it was trained on"):
        Run.open(tmp_path / "run").inputs.text.step_samples(8)


def test_an_interrupted_training_on_written_text_resumes_to_the_same_weights(options, tmp_path, monkeypatch):
    resumed, whole = train_in_two(tmp_path / "two", options, monkeypatch), Run.open(tmp_path / "one", options)
    pipeline.train(whole)
    name = whole.inputs.space.sub_spaces[0].name
    assert_equal(*(run.superlms.trained(name).state_dict() for run in (resumed, whole)))
    other = Run.open(tmp_path / "other", {**options, "on_policy": 0.0})
    pipeline.train(other)
    ours, theirs = (run.superlms.trained(name).state_dict() for run in (whole, other))
    assert any(not torch.equal(value, theirs[key]) for key, value in ours.items())


def test_looking_at_a_run_leaves_no_text_in_it(options, tmp_path):
    with Run.open(tmp_path / "run", options).only_read() as looked_at:
        assert len(looked_at.inputs.text.step_samples(0))
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").glob("*"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"teacher_text": 1.5}, "at most 1"),
        ({"on_policy": -0.5}, "at least 0"),
        ({"train_steps": None, "train_minutes": 1.0}, "give train_steps"),
        ({"text_unit": "sentences"}, "on sequences"),
        ({"objective": "logits-kl+next-token"}, "text that they write"),
    ],
)
def test_wrong_input_is_one_line(options, tmp_path, changed, said):
    def opened():
        inputs = Run.open(tmp_path / "run", {**options, **changed}).inputs
        return inputs.text, inputs.objective

    with pytest.raises(ConfigError, match=said) as error:
        opened()
    assert "\n" not in str(error.value)


def test_encoders_and_workers_are_refused(options, tmp_path, tiny_bert):
    encoder = {**options, "teacher": str(tiny_bert), "space": "auto"}
    with pytest.raises(ConfigError, match="are of decoders"):
        _ = Run.open(tmp_path / "encoder", encoder).inputs.text
    run = Run.open(tmp_path / "run", {**options, "workers": 2})
    with pytest.raises(ConfigError, match="train without --workers"):
        train_on_cluster(run, run.inputs.space.sub_spaces, RECIPE)
