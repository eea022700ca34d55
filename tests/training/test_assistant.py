"""Teacher assistant: its states are the targets, exactly; order of training; what cannot be is refused in a line."""

import json
import shutil
from dataclasses import replace

import autodistil_helpers as helpers
import pytest
import torch
from autodistil_helpers import objective_of, random_teacher, small_space
from run_helpers import run_options, stop_after
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertModel

from autodistil import cli, pipeline
from autodistil.errors import ConfigError, RunError
from autodistil.models.attention import ModelStates, use_tapped_attention
from autodistil.models.families import family_of
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.run.run import Run
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.training.assistant import (
    StudentAssistant,
    check_objective,
    is_sub_space,
    taught_by_model,
    taught_by_sub_space,
)
from autodistil.training.trainer import SuperLMTrainer, train, train_step

pytestmark = pytest.mark.usefixtures("no_picture")

TEACHER = random_teacher("bert")
SMALL = small_space(TEACHER)
TINY = SubSpace("tiny", {"num_layers": (2,), "hidden_size": (16, 32), "head_size": (16,), "mlp_ratio": (1.0, 2.0)})
RECIPE = replace(helpers.RECIPE, steps=4, random_students=1)
OBJECTIVES = ["relation-kl", "relation-kl+embedding-similarity+last-hidden", "minilm+hidden"]


def assistant_of(sub_space=SMALL):
    return StudentAssistant(SuperLM.from_teacher(TEACHER, sub_space), sub_space.largest)


def as_teacher(assistant):
    """The assistant as it would be exported, as an ordinary teacher."""
    model = assistant.superlm.extract(assistant.student)
    use_tapped_attention(model)
    model.requires_grad_(False)
    return Teacher("assistant", None, model, family_of(model.config), None, True, "")


def micro_batches(step):
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(3, 97, (4, 10), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return iter([{"input_ids": ids, "attention_mask": mask}])


def trainer_of(objective, targets=None, sub_space=TINY):
    superlm = SuperLM.from_teacher(TEACHER, sub_space)
    return SuperLMTrainer(superlm, RECIPE, objective_of(objective), targets=targets)


def trained(trainers, teacher=TEACHER, layer=None):
    train(trainers, teacher, micro_batches, lambda rows: None, layer)
    return [trainer.superlm.state_dict() for trainer in trainers]


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# ---- targets


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_by_an_assistant_is_training_by_its_export(objective):
    assistant = assistant_of()
    (by_assistant,) = trained([trainer_of(objective, assistant)])
    (by_export,) = trained([trainer_of(objective)], as_teacher(assistant))
    assert same(by_assistant, by_export)
    (by_teacher,) = trained([trainer_of(objective)])
    small = SMALL.with_axes(num_layers=(2,), hidden_size=(32,))
    (by_smaller,) = trained([trainer_of(objective, assistant_of(small))])
    assert not same(by_assistant, by_smaller)
    # The full-size student of an untrained SuperLM is the teacher, in its states as well.
    assert same(by_assistant, by_teacher)


def test_a_smaller_assistant_teaches_otherwise_than_the_teacher():
    small = SMALL.with_axes(num_layers=(3,), hidden_size=(32,))
    (by_assistant,) = trained([trainer_of("relation-kl", assistant_of(small))])
    (by_teacher,) = trained([trainer_of("relation-kl")])
    assert not same(by_assistant, by_teacher)


def test_an_assistant_does_not_change_and_gets_no_gradient():
    assistant = assistant_of()
    before = {name: value.clone() for name, value in assistant.superlm.state_dict().items()}
    trained([trainer_of("relation-kl+last-hidden", assistant)])
    assert same(assistant.superlm.state_dict(), before)
    assert all(parameter.grad is None for parameter in assistant.superlm.parameters.values())


def test_superlms_of_several_sources_train_side_by_side_as_apart():
    """Each source is asked once a batch, the assistant for its last layer whatever the teacher's layer is."""
    assistant = assistant_of(SMALL.with_axes(num_layers=(3,), hidden_size=(32,)))
    other = replace(TINY, name="other")
    pairs = [(None, TINY), (assistant, other), (assistant, TINY)]
    together = trained([trainer_of("relation-kl", source, sub) for source, sub in pairs], layer=1)
    for (source, sub), ours in zip(pairs, together, strict=True):
        assert same(ours, trained([trainer_of("relation-kl", source, sub)], layer=1)[0])
    (by_teacher,) = trained([trainer_of("relation-kl")])
    assert not same(together[0], by_teacher), "layer 1 is another target"
    assert same(together[2], trained([trainer_of("relation-kl", assistant)])[0])


def test_each_source_runs_once_a_batch(monkeypatch):
    calls = []

    class Counting(StudentAssistant):
        def states(self, *args, **kwargs):
            calls.append(1)
            return super().states(*args, **kwargs)

    assistant = Counting(SuperLM.from_teacher(TEACHER, SMALL), SMALL.largest)
    trainers = [trainer_of("relation-kl", assistant, replace(TINY, name=name)) for name in ("a", "b", "c")]
    monkeypatch.setattr(Teacher, "states", lambda *_: pytest.fail("the teacher teaches nobody here"))
    train_step(trainers, TEACHER, micro_batches(0), None)
    assert len(calls) == 1


# ---- teacher layer


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_middle_layer_and_the_output_come_from_one_forward(layer):
    batch = next(micro_batches(0))
    both = TEACHER.states(batch, layer, output=True, hidden=True)
    for ours, theirs in zip(both.attention, TEACHER.states(batch, layer).attention, strict=True):
        assert torch.equal(ours, theirs)
    last = TEACHER.states(batch, output=True, hidden=True)
    assert torch.equal(both.output, last.output)
    assert all(torch.equal(*pair) for pair in zip(both.hidden, last.hidden, strict=True))
    assert not torch.equal(both.attention.query, last.attention.query)


def test_relations_of_a_middle_layer_train_beside_terms_of_the_output():
    """The step is that of the attention states of the layer and the output of the last one, put together by hand."""
    objective = "relation-kl+embedding-similarity+last-hidden"
    stepped, by_hand = trainer_of(objective), trainer_of(objective)
    train_step([stepped], TEACHER, micro_batches(0), 1)
    batch = next(micro_batches(0))
    states = ModelStates(TEACHER.states(batch, 1).attention, TEACHER.states(batch, output=True).output)
    by_hand.add_gradients(batch, states)
    by_hand.update()
    assert same(stepped.superlm.state_dict(), by_hand.superlm.state_dict())


# ---- who teaches whom


def space_of(*sub_spaces):
    return SearchSpace("test", "", sub_spaces)


def test_a_sub_space_teaches_those_before_it():
    base = replace(SMALL.with_axes(hidden_size=(64,)), name="base")
    space = space_of(TINY, SMALL, base)
    assert taught_by_sub_space("small", space) == (TINY,)
    assert taught_by_sub_space("base", space) == (TINY, SMALL)


def test_a_model_teaches_sub_spaces_without_larger_students():
    small = SuperLM.from_teacher(TEACHER, SMALL)
    middle = next(s for s in SMALL.students if s.hidden_size == 32 and s.num_layers == 4 and s.intermediate_size == 64)
    assistant = as_teacher(StudentAssistant(small, middle))
    assert taught_by_model(assistant, space_of(TINY, SMALL)) == (TINY,)
    with pytest.raises(ConfigError, match="is smaller than the largest student of every sub-space"):
        taught_by_model(assistant, space_of(SMALL))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: taught_by_sub_space("tiny", space_of(TINY, SMALL)), "is the first sub-space .* allowed: small"),
        (lambda: taught_by_sub_space("tiny", space_of(TINY)), "there is no other"),
        (lambda: taught_by_sub_space("tiny", space_of(SMALL, TINY)), "'tiny' is smaller than sub-space 'small'"),
        (lambda: is_sub_space("smal", space_of(TINY, SMALL)), r"did you mean 'small'\?.* no sub-space and no folder"),
        (
            lambda: check_objective(objective_of("relation-kl", 12), "x", SMALL.largest, (TINY,)),
            "12 relation heads do not divide the attention width 64 of assistant 'x'",
        ),
        (
            lambda: check_objective(objective_of("relation-kl+last-hidden"), "x", TINY.largest, (SMALL,)),
            "assistant 'x' is 32 wide, its students up to 64",
        ),
    ],
)
def test_impossible_assistants_are_refused(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


def test_relational_terms_take_an_assistant_of_any_width():
    check_objective(objective_of("relation-kl+embedding-similarity"), "x", TINY.largest, (SMALL,))
    check_objective(objective_of("last-hidden", 12), "x", SMALL.largest, (TINY,))  # no relation, no heads


# ---- runs

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16], head_size: 16, mlp_ratio: [1.0, 2.0]}
  small: {num_layers: [2, 3], hidden_size: [32], head_size: 16, mlp_ratio: [2.0]}
  base: {num_layers: [3], hidden_size: [48], head_size: 16, mlp_ratio: [2.0]}
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    folder = tmp_path_factory.mktemp("inputs")
    return run_options(
        folder,
        quickstart_teacher_dir,
        SPACE,
        train_steps=3,
        checkpoint_seconds=0.0,
        objective="relation-kl+last-hidden",
        threads=1,
    )


def trained_run(folder, options, **more):
    pipeline.train(Run.open(folder, {**options, **more}))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory, options):
    """Taught by the teacher alone."""
    return trained_run(tmp_path_factory.mktemp("plain") / "run", options)


@pytest.fixture(scope="module")
def assisted(tmp_path_factory, options):
    """The sub-space `small` teaches `tiny`."""
    return trained_run(tmp_path_factory.mktemp("assisted") / "run", options, assistant="small")


def weights_of(folder, name):
    return load_file(folder / "superlm" / name / "superlm.safetensors")


def test_an_assistant_changes_what_it_teaches_and_nothing_else(plain, assisted):
    for name in ("small", "base"):
        assert same(weights_of(plain, name), weights_of(assisted, name))
    assert not same(weights_of(plain, "tiny"), weights_of(assisted, "tiny"))


def test_the_assistant_is_trained_first(assisted, plain):
    rows = [json.loads(line)["sub_space"] for line in (assisted / "metrics.jsonl").read_text().splitlines()]
    assert rows == ["small", "base"] * 3 + ["tiny"] * 3
    rows = [json.loads(line)["sub_space"] for line in (plain / "metrics.jsonl").read_text().splitlines()]
    assert rows == ["tiny", "small", "base"] * 3


def test_students_alone_have_the_teacher_of_their_superlm(assisted):
    run = Run.open(assisted)
    assistant = run.superlms.targets_for("tiny")
    assert run.superlms.targets_for(f"tiny-{run.inputs.space.sub_space('tiny').largest.label}") is assistant
    assert run.superlms.targets_for("small") is run.superlms.targets_for("base") is None
    assert assistant.student == run.inputs.space.sub_space("small").largest
    assert same(assistant.superlm.state_dict(), weights_of(assisted, "small"))


def test_held_out_losses_are_against_the_teacher(plain, assisted):
    ours, theirs = (Run.open(folder).scorer.heldout().teacher_states for folder in (plain, assisted))
    assert all(torch.equal(one.output, other.output) for one, other in zip(ours, theirs, strict=True))


def test_an_interrupted_assisted_training_resumes_to_the_same_bits(assisted, tmp_path, options, monkeypatch):
    """Stopped while the assistant teaches."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 6)  # four in the first round: before each of three steps, and after it
        with pytest.raises(KeyboardInterrupt):
            trained_run(folder, options, assistant="small")
    assert (folder / "superlm" / "tiny" / "checkpoint.safetensors").is_file()
    with pytest.raises(RunError, match=r"training of tiny .* was interrupted"):
        pipeline.train(Run.open(folder))
    pipeline.train(Run.open(folder), resume=True)
    for name in ("tiny", "small", "base"):
        assert same(weights_of(folder, name), weights_of(assisted, name))


def test_a_search_trains_the_assistant_though_no_budget_admits_it(assisted, options, tmp_path):
    search = {**options, "assistant": "small", "budgets": ["0.13MFLOPs"]}
    result = pipeline.search(Run.open(tmp_path / "run", search))
    assert set(result.candidates["sub_space"][result.candidates["feasible"]]) == {"tiny"}
    assert not (tmp_path / "run" / "superlm" / "base").exists()
    assert [note for note in result.notes if "not trained" in note] == [
        "no student of base meets the budgets: not trained"
    ]
    assert same(weights_of(tmp_path / "run", "tiny"), weights_of(assisted, "tiny"))
    assert "small teaches tiny" in result.report.read_text(encoding="utf-8")


def test_an_exported_assistant_teaches_as_its_sub_space_did(assisted, options, tmp_path):
    """A folder teaches every sub-space that is no larger: to the same bits, and found changed when it is."""
    shutil.copytree(assisted, tmp_path / "searched")
    run = Run.open(tmp_path / "searched", {"budgets": ["1GFLOPs"]})
    pipeline.search(run)
    student = f"small-{run.inputs.space.sub_space('small').largest.label}"
    pipeline.export(run, student, tmp_path / "student")
    folder = trained_run(tmp_path / "run", options, assistant=str(tmp_path / "student"))
    assert Run.open(folder).superlms.taught == {"tiny", "small"}
    assert same(weights_of(folder, "tiny"), weights_of(assisted, "tiny"))
    shutil.rmtree(tmp_path / "student")
    pipeline.export(run, f"base-{run.inputs.space.sub_space('base').largest.label}", tmp_path / "student")
    with pytest.raises(RunError, match="was made with another assistant"):
        _ = Run.open(folder).superlms.taught


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--assistant", "smal"], "did you mean 'small'"),
        (["--assistant", "tiny"], "is the first sub-space"),
        (["--assistant", "/nowhere/model"], "does not exist"),
        (["--assistant", "roberta"], "'roberta' is no sub-space and no folder"),
        (["--teacher-layer", "4"], "teacher_layer = 4 is not there; allowed: 0 to 3"),
    ],
)
def test_bad_assistants_are_one_line_before_any_training(arguments, words, options, tmp_path, capsys):
    inputs = ["--teacher", options["teacher"], "--corpus", options["corpus"][0], "--space", options["space"]]
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "--run", str(tmp_path / "run"), *inputs, *arguments])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / "run" / "superlm").exists()


def test_an_assistant_with_another_tokenizer_is_refused(options, tmp_path):
    shutil.copytree(options["teacher"], tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"river"', '"autodistil"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="has another tokenizer than the teacher"):
        trained_run(tmp_path / "run", options, assistant=str(tmp_path / "other"))


def test_relation_heads_are_chosen_to_divide_the_assistant_too(options, tmp_path):
    size = {"hidden_size": 60, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}
    BertModel(BertConfig(**size, max_position_embeddings=128)).save_pretrained(tmp_path / "sixty")
    AutoTokenizer.from_pretrained(options["teacher"]).save_pretrained(tmp_path / "sixty")
    layers = {**options, "assistant": str(tmp_path / "sixty")}
    run = Run.open(tmp_path / "run", layers)
    assert 60 % run.inputs.objective.options.relation_heads == 0
    assert run.superlms.taught == {"tiny", "small", "base"}
    with pytest.raises(ConfigError, match="8 relation heads do not divide all attention widths"):
        _ = Run.open(tmp_path / "run", {**layers, "relation_heads": 8}).inputs.objective


def test_a_middle_layer_is_distilled_by_the_command_line_option(options, plain, tmp_path):
    folder = tmp_path / "run"
    inputs = ["--teacher", options["teacher"], "--corpus", options["corpus"][0], "--space", options["space"]]
    shape = ["--train-steps", "3", "--batch-size", "2", "--seq-len", "16", "--threads", "1", "--teacher-layer", "2"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "--run", str(folder), *inputs, *shape, "--objective", options["objective"]])
    assert caught.value.code == 0
    run = Run.open(folder)
    assert run.config.teacher_layer == 2
    assert not same(weights_of(folder, "tiny"), weights_of(plain, "tiny"))
    batch, states = run.scorer.heldout().batches[0], run.scorer.heldout().teacher_states[0]
    assert torch.equal(states.attention.query, run.inputs.ordered_teacher.states(batch, 2).attention.query)
    assert torch.equal(states.output, run.inputs.ordered_teacher.states(batch, output=True).output)
