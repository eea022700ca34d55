"""The first loss or gradient that is not finite ends a training; nothing of it is kept, and nothing is exported."""

from dataclasses import replace

import pytest
import torch
from autodistil_helpers import RECIPE, objective_of, random_teacher, small_space
from run_helpers import run_options
from safetensors.torch import load_file

from autodistil import cli, pipeline
from autodistil.errors import DivergedError
from autodistil.models.superlm import SuperLM
from autodistil.objectives import TERMS
from autodistil.objectives.term import Term
from autodistil.run.run import Run
from autodistil.training.checkpoint import CHECKPOINT, save_checkpoint
from autodistil.training.trainer import SuperLMTrainer, train, train_step

TEACHER = random_teacher("bert")
SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 64], head_size: 16, mlp_ratio: [2.0]}
"""


def trainer_of(**recipe):
    superlm = SuperLM.from_teacher(TEACHER, small_space(TEACHER))
    return SuperLMTrainer(superlm, replace(RECIPE, **recipe), objective_of("relation-kl"))


def batches(step=0):
    generator = torch.Generator().manual_seed(step)
    return iter([{"input_ids": torch.randint(3, 97, (4, 10), generator=generator)}])


def state(trainer):
    moments = [
        value for p in trainer.superlm.parameters.values() for value in trainer.optimizer.state.get(p, {}).values()
    ]
    return [value.clone() for value in (*trainer.superlm.state_dict().values(), *moments)]


class Spoiled(torch.autograd.Function):
    """A finite number whose gradient is not."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


SPOILERS = {
    "loss": (lambda loss: loss * float("nan"), r"the loss of L\S+ is nan"),
    "gradient": (Spoiled.apply, r"the norm of its gradient is (nan|inf)"),
}


@pytest.mark.parametrize("what", SPOILERS)
def test_it_ends_before_anything_is_poisoned(what, monkeypatch, tmp_path):
    trainer = trainer_of()
    train_step([trainer], TEACHER, batches(0), None)
    before = state(trainer)
    spoil, said = SPOILERS[what]
    with monkeypatch.context() as patch:
        patch.setitem(TERMS, "relation-kl", Term(lambda *states: spoil(TERMS_LOSS(*states))))
        with pytest.raises(
            DivergedError, match=rf"^training of small diverged in step 2: {said}; lower the learning rate"
        ):
            train_step([trainer], TEACHER, batches(1), None)
    assert trainer.steps_done == 1
    assert all(p.grad is None for p in trainer.superlm.parameters.values())
    assert all(map(torch.equal, before, state(trainer)))
    train_step([trainer], TEACHER, batches(1), None)  # it can go on


TERMS_LOSS = TERMS["relation-kl"].loss


@pytest.mark.parametrize("rate", [1e30, 1e300])
def test_no_checkpoint_ever_holds_what_is_not_finite(rate, tmp_path):
    trainer = trainer_of(learning_rate=rate, warmup=0.0)

    def save(rows):
        save_checkpoint(trainer, tmp_path)

    with pytest.raises(DivergedError, match="diverged in step 2"):
        train([trainer], TEACHER, batches, save)
    if (tmp_path / CHECKPOINT).exists():
        assert all(value.isfinite().all() for value in load_file(tmp_path / CHECKPOINT).values())


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    return run_options(
        tmp_path_factory.mktemp("diverging"),
        quickstart_teacher_dir,
        SPACE,
        train_steps=4,
        budgets=["100MFLOPs"],
        checkpoint_seconds=0.0,
        least_squares="none",
    )


@pytest.mark.usefixtures("no_picture")
def test_a_search_ends_with_its_step_and_the_checkpoint_that_is_kept(options, tmp_path):
    run = Run.open(tmp_path / "run", {**options, "learning_rate": 1e30})
    said = r"^training of tiny diverged in step 2: .*; kept: tiny after step 1$"
    with pytest.raises(DivergedError, match=said) as caught:
        pipeline.search(run)
    assert caught.value.exit_code == 2
    kept = (tmp_path / "run" / "superlm" / "tiny" / CHECKPOINT).read_bytes()
    with pytest.raises(DivergedError, match=said):  # resumable, to the same end
        pipeline.search(Run.open(tmp_path / "run"), resume=True)
    assert (tmp_path / "run" / "superlm" / "tiny" / CHECKPOINT).read_bytes() == kept
    assert not list((tmp_path / "run").glob("candidates.csv"))
    assert not list((tmp_path / "run").glob("students/*"))


@pytest.mark.usefixtures("no_picture")
def test_weights_that_no_step_looked_at_again_are_found_by_the_search(options, tmp_path):
    run = Run.open(tmp_path / "run", {**options, "learning_rate": 1e30, "train_steps": 1})
    with pytest.raises(DivergedError, match="none of the 2 students scored has a finite held-out loss"):
        pipeline.search(run)
    assert not list((tmp_path / "run").glob("students/*"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_picture")
def test_a_refinement_ends_likewise_and_the_student_stays(options, tmp_path, capsys):
    folder = tmp_path / "run"
    pipeline.search(Run.open(folder, options))
    students = sorted(path.relative_to(folder) for path in folder.glob("students/**/*"))
    with pytest.raises(SystemExit) as caught:
        cli.main(["refine", "--run", str(folder), "--learning-rate", "1e30", "--steps", "4"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "training of tiny-" in line
    assert "diverged in step 2" in line
    assert sorted(path.relative_to(folder) for path in folder.glob("students/**/*")) == students
    assert not list(folder.glob("refined/*/result.json"))
