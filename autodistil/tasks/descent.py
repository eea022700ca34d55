"""Descent by AdamW over epochs of batches, with linear warm-up over a tenth of the steps and linear decay to 0.

As BERT is fine-tuned (Devlin et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from autodistil.errors import DivergedError
from autodistil.models.weight_decay import decayed_parameters
from autodistil.tasks.batching import shuffled_batches

_WARMUP = 0.1
_WEIGHT_DECAY = 0.01
_CLIP = 1.0


class Descent:
    """A training of a network, epoch by epoch. An epoch depends on its number and what `tensors` hold alone."""

    def __init__(
        self,
        network: nn.Module,
        lengths: np.ndarray,
        loss: Callable[[np.ndarray, float], Tensor],
        batch_size: int,
        epochs: int,
        rate: float,
        seed: int,
    ) -> None:
        """Make ready.

        Args:
            network: trained in place.
            lengths: tokens of each row, (rows,): rows of like length make a batch.
            loss: of the rows at some indices, and the share of the training that is done, a scalar.
            batch_size: rows a step.
            epochs: how many, over which the learning rate warms up and falls to 0.
            rate: peak learning rate.
            seed: decides the order of rows, and what torch draws.
        """
        self.network, self.lengths, self.loss = network, lengths, loss
        self.batch_size, self.epochs, self.rate, self.seed = batch_size, epochs, rate, seed
        self.done = 0
        """Epochs."""
        decayed = decayed_parameters(network)
        named = list(network.named_parameters())
        groups = [
            {"params": [p for name, p in named if (name in decayed) == decays], "weight_decay": decay}
            for decays, decay in ((True, _WEIGHT_DECAY), (False, 0.0))
        ]
        fused = named[0][1].device.type in ("cpu", "cuda")  # where words are many, steps are most of the time without
        self._optimizer = torch.optim.AdamW(groups, lr=rate, fused=fused)
        self._steps = -(-len(lengths) // batch_size)
        self._schedule = self._scheduled()

    def epoch(self) -> None:
        """Train for another epoch.

        Raises:
            DivergedError: the loss or its gradient is not finite.
        """
        self.network.train()
        random = np.random.default_rng((self.seed, self.done))
        torch.manual_seed(int(random.integers(2**31)))
        for number, batch in enumerate(
            shuffled_batches(self.lengths, self.batch_size, random), self.done * self._steps
        ):
            value = self.loss(batch, number / (self.epochs * self._steps))
            value.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
            if not (value.isfinite() and norm.isfinite()):
                raise DivergedError(
                    f"learning rate {self.rate:g}, seed {self.seed}: diverged at a loss of {float(value.detach()):g}"
                )
            self._optimizer.step()
            self._schedule.step()
            self._optimizer.zero_grad()
        self.done += 1

    def run(self) -> None:
        """Train for all epochs.

        Raises:
            DivergedError: the loss or its gradient is not finite.
        """
        while self.done < self.epochs:
            self.epoch()

    def tensors(self) -> dict[str, Tensor]:
        """Weights, and the moments of the optimiser, by name."""
        found = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for number, state in self._optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor], done: int) -> None:
        """Go on from what `tensors` gave after so many epochs."""
        weights = {name.removeprefix("network."): v for name, v in tensors.items() if name.startswith("network.")}
        self.network.load_state_dict(weights)
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, kind = name.split(".")
                states.setdefault(int(number), {})[kind] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": states})
        self.done = done
        self._schedule = self._scheduled(done * self._steps - 1)

    def _scheduled(self, last_step: int = -1) -> LRScheduler:
        steps = self.epochs * self._steps
        return get_linear_schedule_with_warmup(self._optimizer, int(_WARMUP * steps), steps, last_step)
