"""Parts of a training step's batch: micro-batches that one worker takes in turn, and rows that N workers share.

Either way the gradient is that of the whole batch. Every worker knows the whole batch (ids are few bytes), cut into
micro-batches to save memory, and computes on its own contiguous rows of each, so nothing depends on N or on the number
of micro-batches but the order of sums. A loss is a mean over tokens, pairs or texts of the batch; a part is weighed by
the share of these that it has, and the sum over parts of the gradients is that of the whole: also with padding, where
the mean of means would be another number. All students of a step are run first; then each SuperLM's gradients, which
partial students leave in different places, go through one flat all-reduce, under way while the next SuperLM computes.
Every worker then takes the same optimiser step.

In-batch similarities couple all texts of a batch. For those, the embeddings of all are gathered, the whole loss is
computed for each part and differentiated by its own rows; the sum over parts is again the gradient of the whole.
Workers gather them inside the loss; micro-batches are not there at the same time, so a forward without a graph goes
before (GradCache, arXiv 2101.06983). No backward pass needs a collective (OpenCLIP's local loss makes use of the same).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from autodistil.data.batch import Batch, count_samples, real_tokens, take_rows
from autodistil.errors import ConfigError
from autodistil.models.attention import Gather
from autodistil.objectives.objective import WHOLE, Share


@dataclass(frozen=True)
class Part:
    """One worker's rows of one micro-batch of a step."""

    batch: Batch
    share: Share
    """What share of the step's batch it is."""
    rows: slice
    """Which texts of the step's batch these are."""
    texts: int
    """Of the step's batch."""

    def placed(self, ours: Tensor) -> Tensor:
        """Rows of these texts among zeros for all others, (texts, ...), detached."""
        everyone = ours.new_zeros((self.texts, *ours.shape[1:]))
        everyone[self.rows] = ours.detach()
        return everyone


@dataclass(frozen=True)
class TrainingWorkers:
    """Those that train together, each making the same calls in the same order; here this process alone."""

    rank: int = 0
    size: int = 1

    def take(self, batches: Sequence[Batch]) -> list[Part]:
        """This worker's rows of each micro-batch of a step; shares are of real tokens, pairs, texts and next tokens."""
        texts = [count_samples(batch) for batch in batches]
        if self.size == len(batches) == 1:
            return [Part(batches[0], WHOLE, slice(0, texts[0]), texts[0])]
        parts, first = [], 0
        whole = torch.stack([_counts(batch) for batch in batches]).sum(0).clamp(min=1)
        for batch, count in zip(batches, texts, strict=True):
            rows = self.rows(count)
            own = take_rows(batch, rows)
            share = replace(Share(*(_counts(own) / whole).tolist()), batch=1 / (self.size * len(batches)))
            parts.append(Part(own, share, slice(first + rows.start, first + rows.stop), sum(texts)))
            first += count
        return parts

    def rows(self, count: int) -> slice:
        """This worker's of a micro-batch of `count` texts.

        Raises:
            ConfigError: there are more workers than texts.
        """
        return shard(count, self.rank, self.size)

    def gather(self, part: Part, known: Tensor | None) -> Gather:
        """What gives the rows of all texts of a step.

        Args:
            part: the texts whose rows are given to it.
            known: the rows of all texts (texts, dim), formed before; None where one micro-batch is all of them.
        """

        def gathered(ours: Tensor) -> Tensor:
            if len(ours) == part.texts:
                return ours
            everyone = self.all_reduce(part.placed(ours)) if known is None else known
            return torch.cat([everyone[: part.rows.start], ours, everyone[part.rows.stop :]])

        return gathered

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over the workers, in place."""
        return tensor

    def start_sum(self, gradients: Sequence[Tensor], losses: Tensor) -> Callable[[], Tensor]:
        """Begin to sum gradients (in place) and losses over the workers; the result waits and returns the losses."""
        return lambda: losses


ALONE = TrainingWorkers()


@dataclass(frozen=True)
class DistributedWorkers(TrainingWorkers):
    """A worker of the default process group of torch.distributed, which must be open."""

    @classmethod
    def current(cls) -> DistributedWorkers:
        """This process."""
        return cls(dist.get_rank(), dist.get_world_size())

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over the workers, in place."""
        dist.all_reduce(tensor)
        return tensor

    def start_sum(self, gradients: Sequence[Tensor], losses: Tensor) -> Callable[[], Tensor]:
        """One flat all-reduce of gradients and losses."""
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), losses])
        work = dist.all_reduce(flat, async_op=True)

        def wait() -> Tensor:
            work.wait()
            parts = flat.split([*(gradient.numel() for gradient in gradients), len(losses)])
            for gradient, part in zip(gradients, parts[:-1], strict=True):
                gradient.copy_(part.view_as(gradient))
            return parts[-1]

        return wait

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give all workers the values of the first one, in place."""
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)

    def agree(self, flags: Sequence[bool], device: torch.device) -> list[bool]:
        """Whether any worker raised it, of each flag."""
        raised = torch.tensor([float(flag) for flag in flags], device=device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return [flag > 0 for flag in raised.tolist()]


def current_workers() -> TrainingWorkers:
    """Those of the open process group, or this process alone where there is none."""
    return DistributedWorkers.current() if dist.is_initialized() else ALONE


def shard(total: int, rank: int, size: int) -> slice:
    """Rows of worker `rank` out of `size`: contiguous, none twice, none missed, as even as can be.

    Raises:
        ConfigError: there are more workers than rows.
    """
    check_batch(total, size)
    return slice(total * rank // size, total * (rank + 1) // size)


def check_batch(samples: int, workers: int) -> None:
    """Make sure that each worker has something to do.

    Raises:
        ConfigError: there are more workers than texts or images in a micro-batch.
    """
    if workers > samples:
        raise ConfigError(
            f"{workers} workers are more than the {samples} texts of a micro-batch; allowed: {samples} or fewer, or a "
            "larger --batch-size in a new run"
        )


def _counts(batch: Batch) -> Tensor:
    """Real tokens, pairs of these within a text, texts, and tokens behind another one: (4,), of float64.

    An image counts as one token, as all have the same number.
    """
    real = real_tokens(batch)
    if real is None:
        seq = batch["input_ids"].shape[1] if "input_ids" in batch else 1
        lengths = torch.full((count_samples(batch),), seq)
    else:
        lengths = real.sum(1).cpu()
    sums = lengths.sum(), lengths.square().sum(), len(lengths), (lengths - 1).sum()
    return torch.tensor(sums, dtype=torch.float64)
