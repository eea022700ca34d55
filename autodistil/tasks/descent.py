"""Descent by AdamW over epochs of batches, with linear warm-up over a tenth of the steps and linear decay to 0.

As BERT is fine-tuned (Devlin et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from transformers import get_linear_schedule_with_warmup

from autodistil.errors import DivergedError
from autodistil.models.weight_decay import decayed_parameters
from autodistil.tasks.batching import shuffled_batches

_WARMUP = 0.1
_WEIGHT_DECAY = 0.01
_CLIP = 1.0


def descent(
    network: nn.Module,
    lengths: np.ndarray,
    loss: Callable[[np.ndarray, float], Tensor],
    batch_size: int,
    epochs: int,
    rate: float,
    seed: int,
) -> Iterator[None]:
    """Train a network; yields after each epoch.

    Args:
        network: trained in place.
        lengths: tokens of each row, (rows,): rows of like length make a batch.
        loss: of the rows at some indices, and the share of the training that is done, a scalar.
        batch_size: rows a step.
        epochs: how many, over which the learning rate warms up and falls to 0.
        rate: peak learning rate.
        seed: decides the order of rows.

    Raises:
        DivergedError: the loss or its gradient is not finite.
    """
    random = np.random.default_rng(seed)
    decayed = decayed_parameters(network)
    groups = [
        {"params": [p for name, p in network.named_parameters() if (name in decayed) == decays], "weight_decay": decay}
        for decays, decay in ((True, _WEIGHT_DECAY), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    steps = epochs * -(-len(lengths) // batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, int(_WARMUP * steps), steps)
    done = 0
    for _ in range(epochs):
        network.train()
        for batch in shuffled_batches(lengths, batch_size, random):
            value = loss(batch, done / steps)
            value.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
            if not (value.isfinite() and norm.isfinite()):
                raise DivergedError(
                    f"learning rate {rate:g}, seed {seed}: diverged at a loss of {float(value.detach()):g}"
                )
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done += 1
        yield
