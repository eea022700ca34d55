"""Checkpoints: one safetensors file per SuperLM that holds weights, optimiser moments and step, replaced atomically.

One file is one rename, so a SuperLM's state is never half of two steps. SuperLMs of a run may stand at different steps
after a crash; the trainer takes each on from its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autodistil.errors import RunError, one_line
from autodistil.models.superlm import SuperLM
from autodistil.training.trainer import SuperLMTrainer
from autodistil.utils import atomic_path, check_sum, discard

WEIGHTS = "superlm.safetensors"
CHECKPOINT = "checkpoint.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(trainer: SuperLMTrainer, folder: Path) -> None:
    """Save what is needed to go on; once finished, the weights alone (and drop the checkpoint).

    Raises:
        RunError: the disk refuses; the last checkpoint is untouched.
        DivergedError: as `check_finite`; likewise.
    """
    check_finite(trainer)
    if trainer.finished:
        save_weights(trainer.superlm, folder, trainer.steps_done)
        discard(folder / CHECKPOINT)
        return
    _save(folder / CHECKPOINT, checkpoint_tensors(trainer), trainer.steps_done)


def checkpoint_tensors(trainer: SuperLMTrainer) -> dict[str, Tensor]:
    """What a checkpoint holds: weights, and the optimiser's moments of those that had a gradient by now."""
    tensors = {f"weights/{name}": value for name, value in trainer.superlm.state_dict().items()}
    for name, parameter in trainer.superlm.parameters.items():
        for key, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value
    return tensors


def check_finite(trainer: SuperLMTrainer) -> None:
    """Make sure that nothing is saved which no training can go on from.

    Raises:
        DivergedError: a weight or moment overflowed.
    """
    for name, parameter in trainer.superlm.parameters.items():
        if not all(
            value.isfinite().all() for value in (parameter, *trainer.optimizer.state.get(parameter, {}).values())
        ):
            raise trainer.diverged(f"the last update of {name} is not finite")


def restore_checkpoint(trainer: SuperLMTrainer, folder: Path) -> int:
    """Bring a trainer to the state that `save_checkpoint` left; returns the steps done (0 where there is none).

    Raises:
        RunError: the file is damaged or belongs to another SuperLM.
    """
    if (folder / WEIGHTS).is_file():
        trainer.steps_done = load_weights(trainer.superlm, folder)
    elif (folder / CHECKPOINT).is_file():
        tensors, trainer.steps_done = _load(folder / CHECKPOINT)
        parts: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for path, value in tensors.items():
            part, _, name = path.partition("/")
            parts[part][name] = value
        _restore_weights(trainer.superlm, parts["weights"], folder / CHECKPOINT)
        fused = trainer.optimizer.defaults["fused"]  # only then AdamW wants its step count beside the parameter
        for name, parameter in trainer.superlm.parameters.items():
            if name in parts["exp_avg"]:
                devices = {key: parameter.device if key != "step" or fused else "cpu" for key in _MOMENTS}
                moments = {key: parts[key][name].to(device) for key, device in devices.items()}
                trainer.optimizer.state[parameter] = moments
    return trainer.steps_done


def steps_saved(folder: Path) -> int:
    """Steps done of what is saved in a folder, 0 where nothing is.

    Raises:
        RunError: the file is damaged.
    """
    for name in (WEIGHTS, CHECKPOINT):
        if (folder / name).is_file():
            return _load(folder / name, tensors=False)[1]
    return 0


def save_weights(superlm: SuperLM, folder: Path, steps: int) -> None:
    """Write the weights of a training of so many steps, for `load_weights`."""
    _save(folder / WEIGHTS, superlm.state_dict(), steps)


def load_weights(superlm: SuperLM, folder: Path) -> int:
    """Load the weights of a finished training; returns its steps.

    Raises:
        RunError: missing, damaged or of another SuperLM.
    """
    tensors, steps = _load(folder / WEIGHTS)
    _restore_weights(superlm, tensors, folder / WEIGHTS)
    return steps


def _restore_weights(superlm: SuperLM, weights: Mapping[str, Tensor], path: Path) -> None:
    expected = {name: value.shape for name, value in superlm.parameters.items()}
    if {name: value.shape for name, value in weights.items()} != expected:
        raise RunError(f"{str(path)!r} belongs to another SuperLM; use another --run folder or remove this one")
    superlm.load_state_dict(weights)


def _save(path: Path, tensors: Mapping[str, Tensor], steps: int) -> None:
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path, summed=True) as temporary:
        save_file(contiguous, temporary, metadata={"steps": str(steps)})


def _load(path: Path, tensors: bool = True) -> tuple[dict[str, Tensor], int]:
    try:
        if tensors:
            check_sum(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys() if tensors else ()
            return {name: file.get_tensor(name) for name in names}, int(metadata["steps"])
    except FileNotFoundError as error:
        raise RunError(f"checkpoint {str(path)!r} is not there; restore it, or train again") from error
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(
            f"checkpoint {str(path)!r} is damaged ({one_line(error, 100)}); remove it to train again"
        ) from error
