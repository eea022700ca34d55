"""A fine-tuning after its last epoch, as a file to go on from: safetensors, whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from autodistil.tasks.finetune import FineTuning
from autodistil.tasks.span_finder import SpanTuning
from autodistil.utils import atomic_path

_BEST, _SAID = "best.", "said"


@dataclass(frozen=True)
class BestEpoch:
    """The best one so far."""

    epoch: int
    """From 1."""
    value: float
    """Its headline metric on the rows that choose."""
    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, network: nn.Module, epoch: int, value: float) -> BestEpoch:
        """The weights of a network as they are now."""
        state = network.state_dict()
        return cls(epoch, value, {name: weight.detach().cpu().clone() for name, weight in state.items()})


@dataclass(frozen=True)
class EpochFile:
    """Where a fine-tuning is kept while it goes on."""

    path: Path
    identity: str
    """Of what decides the training: a file of another one counts as none."""

    def save(self, tuning: FineTuning | SpanTuning, best: BestEpoch) -> None:
        """Write what came of the epochs that are done, in the place of an earlier file.

        Raises:
            RunError: the disk refuses.
        """
        tensors = {**tuning.tensors(), **{f"{_BEST}{name}": weight for name, weight in best.weights.items()}}
        whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        said = {"identity": self.identity, "done": tuning.done, "epoch": best.epoch, "value": best.value}
        with atomic_path(self.path) as temporary:
            save_file(whole, temporary, {_SAID: json.dumps(said)})

    def restore(self, tuning: FineTuning | SpanTuning) -> BestEpoch | None:
        """Bring a fine-tuning to where it was left; None, and nothing changes, where no file of it is there."""
        try:
            with safe_open(self.path, "pt") as file:
                said = json.loads(file.metadata()[_SAID])
                if said["identity"] != self.identity:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        tuning.restore(tensors, said["done"])
        weights = {name.removeprefix(_BEST): value for name, value in tensors.items() if name.startswith(_BEST)}
        return BestEpoch(said["epoch"], said["value"], weights)

    def remove(self) -> None:
        """Once the training is done."""
        self.path.unlink(missing_ok=True)
