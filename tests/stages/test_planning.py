"""What a dry run says of a search is what the search then is, and it leaves the run folder as it was."""

from collections import Counter

import pytest
from run_helpers import run_options, stop_after

from autodistil import pipeline
from autodistil.errors import AutodistilError, BudgetError, ConfigError
from autodistil.run.run import Run
from autodistil.stages import trying
from autodistil.stages.planning import Work
from autodistil.stages.training_length import StepTimes

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: [2.0]}
  small: {num_layers: [2, 3], hidden_size: [48], head_size: 16, mlp_ratio: [2.0]}
  base: {num_layers: [3, 4], hidden_size: [64], head_size: 16, mlp_ratio: [4.0]}
"""
STEPS = 4
TIGHT = "800KFLOPs"
"""Keeps base out, and some of small."""


@pytest.fixture(scope="module", autouse=True)
def _impatient():
    """No more steps are timed than have to be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trying, "PATIENCE", 0.0)
        yield


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    """A random BERT of 4 layers x 64, some text and a space of three sub-spaces."""
    folder = tmp_path_factory.mktemp("planning")
    more = {"train_steps": STEPS, "checkpoint_seconds": 0.0, "refine_top": 1, "refine_steps": 2}
    return run_options(folder, quickstart_teacher_dir, SPACE, **more)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, options):
    """A run that was searched under a tight budget, the plan of that search and its result."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    plan = pipeline.plan(opened(folder, options, TIGHT))
    assert not folder.exists()
    return plan, pipeline.search(opened(folder, options, TIGHT))


def opened(folder, options, *budgets, **more):
    return Run.open(folder, {**options, "budgets": budgets, **more})


def everything(folder):
    """Every file and folder below a folder, with content and times."""
    found = [folder, *sorted(folder.rglob("*"))]
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in found}


def payload(path):
    """Bytes of the tensors of a safetensors file."""
    header = int.from_bytes(path.read_bytes()[:8], "little")
    return path.stat().st_size - 8 - header


def states(plan):
    return {sub.name: sub.state for sub in plan.sub_spaces}


def test_counts_are_those_of_the_search(searched):
    plan, result = searched
    feasible = Counter(result.candidates[result.candidates["feasible"]]["sub_space"])
    assert {sub.name: sub.feasible for sub in plan.sub_spaces} == {"tiny": 2, "small": 1, "base": 0}
    assert feasible == {"tiny": 2, "small": 1}
    assert plan.feasible == plan.scoring.count == 3
    assert plan.students == len(result.candidates) == 6
    assert states(plan) == {"tiny": "to train", "small": "to train", "base": "not needed"}
    assert {path.name for path in (result.run / "superlm").iterdir()} == {"tiny", "small"}
    assert (plan.is_new, plan.steps, plan.steps_from, plan.training.count) == (True, STEPS, "as given", STEPS)
    assert (plan.sampler, plan.finalists, plan.refining.count) == ("exhaustive", 1, 2)
    assert "no student of base meets the budgets: not trained" in plan.notes
    assert set(plan.notes[:-1]) <= set(result.notes)  # but for the look, whose time is measured otherwise
    assert plan.teacher.costs == result.teacher.costs


def test_all_work_is_timed(searched):
    plan, _ = searched
    works = [plan.training, plan.scoring, plan.refining]
    assert all(work.seconds == work.count * work.seconds_each > 0 for work in works)
    assert plan.seconds == pytest.approx(sum(work.seconds for work in works))


def test_what_is_trained_is_not_planned_again_and_nothing_is_touched(searched, options):
    _, result = searched
    before = everything(result.run)
    plan = pipeline.plan(opened(result.run, options, TIGHT))
    assert not plan.is_new
    assert states(plan) == {"tiny": "trained", "small": "trained", "base": "not needed"}
    assert (plan.training, plan.scoring.count) == (Work(0, None), 0)
    assert plan.steps_from == "those of the run"
    assert (plan.disk.checkpoints, plan.disk.superlms) == (0, 0)
    assert plan.refining.seconds > 0  # of the best, which may be another student under other budgets
    wider = pipeline.plan(opened(result.run, options, "100MFLOPs"))
    assert states(wider) == {"tiny": "trained", "small": "trained", "base": "to train"}
    assert (wider.training.count, wider.scoring.count) == (STEPS, wider.feasible - plan.feasible)
    assert wider.teacher_meets
    assert everything(result.run) == before


@pytest.mark.parametrize("lost", ["importance.safetensors", "heldout.npy", "candidates.csv"])
def test_what_a_run_lacks_is_made_elsewhere(searched, options, lost, tmp_path):
    _, result = searched
    folder = tmp_path / "run"
    folder.mkdir()
    for path in result.run.iterdir():
        if path.is_file() and lost not in path.name:
            (folder / path.name).write_bytes(path.read_bytes())
    before = everything(folder)
    plan = pipeline.plan(opened(folder, options, TIGHT))
    assert plan.training.count == STEPS
    assert everything(folder) == before


def test_bytes_are_those_of_the_files(searched, options, tmp_path):
    plan, result = searched
    weights = [result.run / "superlm" / name / "superlm.safetensors" for name in ("tiny", "small")]
    assert plan.disk.superlms == sum(map(payload, weights))
    (refined,) = (result.run / "refined").glob("*/superlm.safetensors")
    assert plan.disk.refined >= payload(refined)
    assert plan.disk.student >= (result.student.path / "model.safetensors").stat().st_size
    costs = result.candidates[result.candidates["feasible"]]["size_mb"]
    assert plan.disk.student == round(1e6 * costs.max())
    run = opened(tmp_path / "run", options, TIGHT)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, STEPS)
        with pytest.raises(KeyboardInterrupt):
            pipeline.search(run)
    checkpoints = sorted((tmp_path / "run" / "superlm").glob("*/checkpoint.safetensors"))
    assert len(checkpoints) == 2
    assert plan.disk.checkpoints == sum(map(payload, checkpoints))
    again = pipeline.plan(opened(tmp_path / "run", options, TIGHT))
    assert states(again) == {"tiny": "begun", "small": "begun", "base": "not needed"}
    assert again.training.count == STEPS - again.sub_spaces[0].steps_done > 0
    assert "training of tiny, small was interrupted: it goes on with --resume" in again.notes


def test_memory_is_what_training_holds_at_once(searched, options, tmp_path):
    """Weights and moments of all, the teacher as it is and in importance order, one gradient."""
    plan, _ = searched
    run = opened(tmp_path / "run", options, TIGHT)
    teacher = sum(parameter.nbytes for _, parameter in run.inputs.teacher.named_parameters())
    gradient = plan.memory - plan.disk.checkpoints - 2 * teacher
    assert 0 < gradient <= plan.disk.superlms
    trained = pipeline.plan(opened(searched[1].run, options, TIGHT))
    assert trained.memory >= plan.disk.superlms + 2 * teacher


def test_minutes_become_steps(options, tmp_path, monkeypatch):
    times = StepTimes([9.0, 1.0, 2.0])
    assert (times.each, times.steps_in(60), times.steps_in(1)) == (1.5, 32, 1)
    alone = StepTimes([2.0, 0.5])
    assert times.steps_in(60, alone, 1) == int((60 - 12 - 2.5) / (1.5 + 6 * 0.5))
    assert times.steps_in(60, alone, 2, 10) == int((60 - 12 - 2.5 - 2 * 10 * 0.5) / 1.5)
    monkeypatch.setattr(trying, "time_steps", lambda *_: times)
    plan = pipeline.plan(opened(tmp_path / "run", options, TIGHT, train_steps=None, train_minutes=1))
    assert (plan.steps, plan.steps_from, plan.training) == (22, "what fits into 1 minutes", Work(22, 1.5))
    whole = pipeline.plan(opened(tmp_path / "run", options, TIGHT, train_steps=None, train_minutes=1, refine_top=0))
    assert whole.steps == 32
    assert not (tmp_path / "run").exists()


def test_a_budget_of_a_device_is_left_to_the_search(options, tmp_path, monkeypatch):
    monkeypatch.setattr("autodistil.stages.costing._profile", lambda *_: pytest.fail("profiled"))
    plan = pipeline.plan(opened(tmp_path / "run", options, TIGHT, " 8ms @cpu"))
    assert (plan.budgets, plan.unmeasured, plan.feasible) == ((TIGHT, "8ms @cpu"), ("8ms @cpu",), 3)
    assert plan.teacher_meets is False
    alone = pipeline.plan(opened(tmp_path / "run", options, "8ms@cpu"))
    assert (alone.teacher_meets, alone.feasible) == (None, 5)  # all but the one of the teacher's own shape
    assert any(note.endswith("meets 8ms@cpu itself was not measured.") for note in alone.notes)
    assert not (tmp_path / "run").exists()


def test_workers_are_not_timed(options, tmp_path):
    plan = pipeline.plan(opened(tmp_path / "run", options, TIGHT, workers=2, refine_top=0))
    assert (plan.training, plan.scoring, plan.seconds) == (Work(STEPS, None), Work(3, None), None)
    assert plan.disk.checkpoints == 3 * plan.disk.superlms
    assert plan.notes[-1] == "nothing is timed: 2 Ray workers train and score, not this process"


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"budgets": ["1KFLOPs"]}, BudgetError, "no student of space 'space' meets 1KFLOPs"),
        ({"budgets": ["5apples"]}, BudgetError, "unit"),
        ({"train_steps": None, "train_minutes": 1, "workers": 2}, ConfigError, "cannot be timed here"),
        ({"study_storage": "mysql://host/database"}, ConfigError, "another kind of database"),
        ({"proxy": "no-such-task", "refine_top": 0}, AutodistilError, "no-such-task"),
    ],
)
def test_what_a_search_refuses_is_refused(options, tmp_path, more, error, words):
    with pytest.raises(error, match=words):
        pipeline.plan(opened(tmp_path / "run", options, TIGHT, **more))
    assert not (tmp_path / "run").exists()


def test_vocabularies_factors_and_an_assistant_are_planned_too(options, tmp_path):
    space = """
sub_spaces:
  few: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: [2.0], vocab_size: [4000]}
  slim: {num_layers: [2], hidden_size: [32, 48], head_size: 16, mlp_ratio: [2.0], embedding_size: [16]}
  all: {num_layers: [3], hidden_size: [64], head_size: 16, mlp_ratio: [4.0]}
"""
    (tmp_path / "space.yaml").write_text(space)
    chosen = {"space": str(tmp_path / "space.yaml"), "assistant": "all", "refine_top": 2}
    plan = pipeline.plan(opened(tmp_path / "run", options, "900KFLOPs", **chosen))
    assert states(plan) == {"few": "to train", "slim": "to train", "all": "to train"}
    assert {sub.name: sub.feasible for sub in plan.sub_spaces} == {"few": 2, "slim": 2, "all": 0}
    assert (plan.scoring.count, plan.refining.count) == (4, 2 * 2)
    assert not (tmp_path / "run").exists()
