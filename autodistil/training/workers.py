"""Data parallelism: N workers share each global micro-batch and get the gradient that one worker would have.

Every worker knows the whole micro-batch (ids are few bytes) and computes on its own contiguous rows, so nothing depends
on N but the order of sums. A loss is a mean over tokens, pairs or texts of the micro-batch; a worker weighs its part by
the share of these that it has, and the sum over workers of the gradients is that of the whole: whatever N is, and with
padding, where the mean of N means would be another number. All students of a step are run first; then each SuperLM's
gradients, which partial students leave in different places, go through one flat all-reduce, under way while the next
SuperLM computes. Every worker then takes the same optimiser step.

In-batch similarities couple all texts of a micro-batch. For those, workers gather the embeddings of all, each computes
the whole loss and differentiates it by its own rows; the sum over workers is again the gradient of the whole, and no
backward pass needs a collective (GradCache, arXiv 2101.06983, and OpenCLIP's local loss make use of the same).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from autodistil.data.batch import Batch, count_samples, real_tokens, take_rows
from autodistil.errors import ConfigError
from autodistil.objectives.objective import WHOLE, Share


class TrainingWorkers:
    """Those that train together, each making the same calls in the same order; here this process alone."""

    def take(self, batch: Batch) -> tuple[Batch, Share]:
        """This worker's part of a micro-batch, and what share of it that is."""
        return batch, WHOLE

    def start_sum(self, gradients: Sequence[Tensor], losses: Tensor) -> Callable[[], Tensor]:
        """Begin to sum gradients (in place) and losses over the workers; the result waits and returns the losses."""
        return lambda: losses


ALONE = TrainingWorkers()


@dataclass(frozen=True)
class DistributedWorkers(TrainingWorkers):
    """A worker of the default process group of torch.distributed, which must be open."""

    rank: int
    size: int

    @classmethod
    def current(cls) -> DistributedWorkers:
        """This process."""
        return cls(dist.get_rank(), dist.get_world_size())

    def take(self, batch: Batch) -> tuple[Batch, Share]:
        """This worker's rows of a micro-batch; shares are of its real tokens, pairs, texts and next tokens."""
        samples = count_samples(batch)
        rows = shard(samples, self.rank, self.size)
        part, own = take_rows(batch, rows), rows.stop - rows.start
        (tokens, pairs), (all_tokens, all_pairs) = _counts(part), _counts(batch)
        following = (tokens - own) / max(1, all_tokens - samples)

        def gather(ours: Tensor) -> Tensor:
            """Rows of all workers (samples, dim) from this worker's, of which alone gradients come."""
            everyone = ours.new_zeros((samples, *ours.shape[1:]))
            everyone[rows] = ours.detach()
            dist.all_reduce(everyone)
            return torch.cat([everyone[: rows.start], ours, everyone[rows.stop :]])

        return part, Share(tokens / all_tokens, pairs / all_pairs, own / samples, 1 / self.size, gather, following)

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


def _counts(batch: Batch) -> tuple[int, int]:
    """Real tokens, and pairs of these within a text; an image counts as one token, as all have the same number."""
    real = real_tokens(batch)
    if real is None:
        samples, seq = count_samples(batch), batch["input_ids"].shape[1] if "input_ids" in batch else 1
        return samples * seq, samples * seq * seq
    lengths = real.sum(1)
    return int(lengths.sum()), int(lengths.square().sum())
