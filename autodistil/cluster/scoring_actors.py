"""Ray actors that hold a `HeldOutScorer` each, and the pool that gives them work and replaces those that are lost.

To be imported once a session is open: Ray reads where it may listen when it is imported.
"""

from __future__ import annotations

import heapq
import io
from dataclasses import dataclass, field
from typing import Any

import ray
import torch

from autodistil.config import RunConfig
from autodistil.errors import ClusterError
from autodistil.evaluation.heldout import HeldOutScorer
from autodistil.space.student import Candidate
from autodistil.student_search.racing import Losses, Place
from autodistil.utils import resolve_device

_LOST = (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
"""What is raised for work of an actor that is no more."""


class _Actor:
    """Holds a `HeldOutScorer` on its device."""

    def __init__(self, packed: bytes, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        place = resolve_device(device)
        self.scorer: HeldOutScorer = torch.load(io.BytesIO(packed), map_location=place, weights_only=False)

    def ready(self) -> None:
        """Returns once everything is loaded."""

    def losses(self, student: Candidate, number: int) -> Losses:
        """Losses of the texts of a held-out block, (texts,)."""
        with torch.no_grad():
            return self.scorer.blocks_of(student)(number)


@dataclass
class ScoringPool:
    """Actors at work on blocks, the first ones first.

    Args:
        scorer: what they hold.
        config: how many there are, what each needs, and how many may be lost.
    """

    scorer: HeldOutScorer
    config: RunConfig
    lost: int = field(default=0, init=False)
    """Actors lost so far."""
    _waiting: list[tuple[Place, Candidate]] = field(default_factory=list, init=False)
    _running: dict[Any, tuple[Any, tuple[Place, Candidate] | None]] = field(default_factory=dict, init=False)
    """Result to come -> its actor and the block; no block while it loads, or where nobody wants it any more."""
    _idle: list[Any] = field(default_factory=list, init=False)
    _loaded: bool = field(default=False, init=False)
    """Some actor has loaded what it holds: another one can."""

    def __post_init__(self) -> None:
        buffer = io.BytesIO()
        torch.save(self.scorer, buffer, pickle_module=ray.cloudpickle)
        self._packed = ray.put(buffer.getvalue())
        for _ in range(self.config.workers):
            self._start_actor()

    @property
    def ahead(self) -> int:
        """Students that are worth working on at a time: two for each actor."""
        return 2 * self.config.workers

    @property
    def actors(self) -> list[Any]:
        """Handles of the actors, idle ones first."""
        return [*self._idle, *(actor for actor, _ in self._running.values())]

    def submit(self, place: Place, student: Candidate) -> None:
        """Have a block scored."""
        heapq.heappush(self._waiting, (place, student))
        self._dispatch()

    def finished(self) -> tuple[Place, Losses]:
        """Wait for a block.

        Raises:
            ClusterError: more actors were lost than may be.
        """
        while True:
            done, _ = ray.wait(list(self._running), num_returns=1)
            actor, task = self._running.pop(done[0])
            try:
                losses = ray.get(done[0])
            except _LOST as error:
                self._replace(error, task)
                continue
            self._loaded = True
            self._idle.append(actor)
            self._dispatch()
            if task is not None:
                return task[0], losses

    def forget(self, student: int) -> None:
        """Drop the blocks of a student."""
        self._waiting = [task for task in self._waiting if task[0][0] != student]
        heapq.heapify(self._waiting)
        for result, (actor, task) in self._running.items():
            if task is not None and task[0][0] == student:
                self._running[result] = actor, None

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            ray.kill(actor)
        self._idle, self._running = [], {}

    def _start_actor(self) -> None:
        config = self.config
        device = "cpu" if config.device == "auto" and not config.gpus_per_worker else config.device
        remote = ray.remote(num_cpus=config.cpus_per_worker, num_gpus=config.gpus_per_worker)(_Actor)
        actor: Any = remote.remote(self._packed, device, config.cpus_per_worker)
        self._running[actor.ready.remote()] = actor, None

    def _dispatch(self) -> None:
        while self._idle and self._waiting:
            actor, task = self._idle.pop(), heapq.heappop(self._waiting)
            place, student = task
            self._running[actor.losses.remote(student, place[1])] = actor, task

    def _replace(self, error: Exception, task: tuple[Place, Candidate] | None) -> None:
        """Start an actor in the place of a lost one, whose block waits again."""
        self.lost += 1
        if not self._loaded or 0 <= self.config.max_failures < self.lost:
            raise ClusterError(
                f"{self.lost} scoring actors were lost ({' '.join(str(error).split())[:150]}); "
                "go on with --resume, with more --max-failures or fewer --workers"
            ) from error
        if task is not None:
            heapq.heappush(self._waiting, task)
        self._start_actor()
        self._dispatch()
