"""Training of SuperLMs by sandwich sampling: all of them side by side on one teacher forward.

Each SuperLM's training is a function of its recipe, teacher, text and sub-space alone, whatever is trained beside it;
so SuperLMs may be trained together, apart, or resumed from different steps, with the same result to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest

import torch
from torch import Tensor

from autodistil.data.batch import TARGETS, Batch, count_tokens, real_tokens
from autodistil.errors import DivergedError
from autodistil.models.attention import Gather, ModelStates
from autodistil.models.retokenised import Reading
from autodistil.models.superlm import SuperLM, TokenRows
from autodistil.models.teacher import Teacher
from autodistil.objectives.objective import WHOLE, Objective, Share
from autodistil.space.student import StudentConfig, size_key
from autodistil.training.assistant import StudentAssistant
from autodistil.training.on_policy import is_on_policy, own_texts
from autodistil.training.recipe import Recipe
from autodistil.training.sampling import draw_students
from autodistil.training.workers import ALONE, Part, TrainingWorkers


@dataclass(frozen=True)
class StepMetrics:
    """What one step of one SuperLM reports."""

    sub_space: str
    step: int
    """Steps done, this one included."""
    tokens: int
    """Real tokens of this step, for each drawn student."""
    loss: float
    """Mean over the drawn students."""
    largest_loss: float
    """Of the largest of the drawn students; the largest there is, under samplings that always draw it."""
    smallest_loss: float
    lr: float
    grad_norm: float
    """Before clipping."""
    seconds: float
    """Spent on this SuperLM in this step, its share of the teacher left out."""


Targets = Teacher | StudentAssistant
"""What a SuperLM may be distilled from; from an assistant by its last layer."""


@dataclass
class SuperLMTrainer:
    """One SuperLM with its optimiser and the number of steps done."""

    superlm: SuperLM
    recipe: Recipe
    objective: Objective
    steps_done: int = 0
    targets: Targets | None = None
    """What it is distilled from; None: the run's teacher."""
    read: Callable[[Batch, int], Reading | None] | None = None
    """A batch as students with a vocabulary of such a size read it; where it gives None, they read the teacher's
    tokens."""
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        decayed, parameters = self.superlm.decayed, self.superlm.parameters
        groups = [
            {
                "params": [p for name, p in parameters.items() if name in decayed],
                "weight_decay": self.recipe.weight_decay,
            },
            {"params": [p for name, p in parameters.items() if name not in decayed], "weight_decay": 0.0},
        ]
        fused = self.superlm.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(groups, lr=self.peak_rate, fused=fused)

    @property
    def name(self) -> str:
        """Name of the sub-space."""
        return self.superlm.sub_space.name

    @property
    def peak_rate(self) -> float:
        """Peak learning rate."""
        return self.recipe.peak_rate(self.superlm.sub_space.largest.hidden_size)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.steps_done >= self.recipe.steps

    def add_gradients(
        self, batch: Batch, teacher_states: ModelStates, share: Share = WHOLE, gathers: Sequence[Gather] = ()
    ) -> Tensor:
        """Forward and backward of this step's students on a part of the step's batch.

        Gradients are the mean over students (the paper adds them; AdamW does not see the factor), summed over parts.
        In place, all but the first student learn from the first (in-place distillation; Yu & Huang 2019).

        Args:
            batch: the texts of the part.
            teacher_states: what the students are compared with.
            share: what share of the step's batch they are.
            gathers: of each student, what gives the embeddings of all texts; none where these are all.

        Returns:
            This part's share of the losses of the students in drawing order, (students,), detached.
        """
        students = self.students()
        mask = real_tokens(batch)
        losses = []
        for student, gather in zip_longest(students, gathers):
            states, leaves, rows = self._forward(student, batch)
            states = replace(states, gather=gather)
            loss = self.objective(states, teacher_states, mask, share)
            if self.recipe.in_place and student is students[0]:
                outputs = None if teacher_states.targets is None else self.objective.outputs(states, mask).detach()
                teacher_states = replace(states.detach(), tokens=teacher_states.tokens, targets=outputs).for_many()
            (loss / len(students)).backward()
            self.superlm.accumulate(student, leaves, rows)
            losses.append(loss.detach())
        return torch.stack(losses)

    @torch.no_grad()
    def compared(self, batch: Batch, teacher_states: ModelStates) -> list[Tensor]:
        """What terms compare texts by, (texts, hidden + dim): of the targets, then of each student of this step."""
        mask = real_tokens(batch)
        students = (self._forward(student, batch)[0] for student in self.students())
        return [self.objective.compared(states, mask) for states in chain([teacher_states], students)]

    def _forward(self, student: StudentConfig, batch: Batch) -> tuple[ModelStates, dict[str, Tensor], TokenRows | None]:
        """States of a student at the teacher's tokens, the leaves that its gradients go to, and their rows."""
        objective, dtype = self.objective, DTYPES[self.recipe.precision]
        reading = self.read(batch, student.vocab_size) if self.read and student.vocab_size is not None else None
        text = reading.batch if reading else batch
        rows = self.superlm.token_rows(text)
        leaves = self.superlm.leaf_weights(student, rows, dtype, objective.needs_head)
        inputs = rows.batch if rows else text
        states = self.superlm.forward(student, inputs, leaves, objective.needs_output, objective.needs_hidden)
        return reading.of_tokens(states) if reading else states, leaves, rows

    def students(self) -> list[StudentConfig]:
        """The students of the step to come, largest first and smallest last under the sandwich rule."""
        return draw_students(self.superlm.sub_space, self.recipe, self.steps_done)

    def update(self) -> tuple[float, float]:
        """Clip, step the optimiser and clear the gradients; returns the learning rate and the gradient's norm.

        Raises:
            DivergedError: the norm is not finite; weights and moments are as before.
        """
        learning_rate = self.peak_rate * self.recipe.rate_share(self.steps_done)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        parameters = list(self.superlm.parameters.values())
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
        if not norm.isfinite():
            raise self.diverged(f"the norm of its gradient is {float(norm)}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        return learning_rate, float(norm)

    def diverged(self, what: str) -> DivergedError:
        """The error that ends the training in the step to come; its gradient is dropped."""
        self.optimizer.zero_grad(set_to_none=True)
        return DivergedError(
            f"training of {self.name} diverged in step {self.steps_done + 1}: {what}; lower the learning rate "
            f"({self.peak_rate:g}) in a run of its own, or look for a cause in teacher and text"
        )


def train(
    trainers: Sequence[SuperLMTrainer],
    teacher: Teacher,
    micro_batches: Callable[[int], Iterator[Batch]],
    on_step: Callable[[list[StepMetrics]], None],
    layer: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    workers: TrainingWorkers = ALONE,
) -> None:
    """Train until every trainer is finished or `should_stop()`.

    Args:
        trainers: those of one run; they may stand at different steps.
        teacher: the common teacher.
        micro_batches: step -> the micro-batches of that step.
        on_step: called after each step with the metrics of the SuperLMs that took it.
        layer: teacher layer to distil, the last unless given.
        should_stop: asked between steps, when all state is consistent.
        workers: those that share each micro-batch.

    Raises:
        DivergedError: a loss or gradient is not finite, which ends it for all; no trainer keeps anything of that.
    """
    pending = [trainer for trainer in trainers if not trainer.finished]
    while pending and not should_stop():
        step = min(trainer.steps_done for trainer in pending)
        due = [trainer for trainer in pending if trainer.steps_done == step]
        on_step(train_step(due, teacher, micro_batches(step), layer, workers))
        pending = [trainer for trainer in pending if not trainer.finished]


def train_step(
    trainers: Sequence[SuperLMTrainer],
    teacher: Teacher,
    batches: Iterable[Batch],
    layer: int | None,
    workers: TrainingWorkers = ALONE,
) -> list[StepMetrics]:
    """One step of each trainer on the same micro-batches, and on the same states where they have one teacher.

    In steps that are on-policy each is on texts of its own, which its largest student makes of the micro-batches.

    A trainer alone is updated right after its last micro-batch, so that gradients of one SuperLM are held at a time;
    among workers the sums of all SuperLMs are under way while the next one computes. Where terms compare the texts of
    the batch and it comes in several micro-batches, all go through the models once before, for their embeddings.
    """
    batches, recipe, step = list(batches), trainers[0].recipe, trainers[0].steps_done
    if not is_on_policy(recipe, step):
        return _step_on(trainers, teacher, batches, layer, workers)
    rows = []
    for trainer in trainers:
        start = time.perf_counter()
        own = own_texts(trainer.superlm, batches, recipe, step)
        writing = time.perf_counter() - start
        (row,) = _step_on([trainer], teacher, own, layer, workers)
        rows.append(replace(row, seconds=writing + row.seconds))
    return rows


def _step_on(
    trainers: Sequence[SuperLMTrainer],
    teacher: Teacher,
    batches: Sequence[Batch],
    layer: int | None,
    workers: TrainingWorkers,
) -> list[StepMetrics]:
    parts = workers.take(batches)
    steps = [_Step(trainer, workers) for trainer in trainers]
    if len(parts) > 1:
        _look_ahead([step for step in steps if step.trainer.objective.compares_texts], teacher, parts, layer)
    tokens, finished = 0, []
    for batch, part in zip(batches, parts, strict=True):
        targets = _target_states(trainers, teacher, part.batch, layer)
        tokens += count_tokens(batch, targets[0].attention.query.shape[2])
        for step, states in zip(steps, targets, strict=True):
            step.add(part, states, last=part is parts[-1])
            if part is parts[-1] and workers is ALONE:
                finished.append(step.finish(tokens))
    return finished or [step.finish(tokens) for step in steps]


def _look_ahead(steps: Sequence[_Step], teacher: Teacher, parts: Sequence[Part], layer: int | None) -> None:
    """Form the embeddings of all texts of a step by its targets and students, without a graph."""
    for part in parts if steps else ():
        targets = _target_states([step.trainer for step in steps], teacher, part.batch, layer)
        for step, states in zip(steps, targets, strict=True):
            step.look_ahead(part, states)
    for step in steps:
        step.known = [step.workers.all_reduce(known) for known in step.known]


@dataclass
class _Step:
    """One step of one SuperLM: gradients of all micro-batches, their sum over the workers, the update."""

    trainer: SuperLMTrainer
    workers: TrainingWorkers
    known: list[Tensor] = field(default_factory=list)
    """What the step's texts are compared by, where they were looked at ahead: of the targets, then the students."""
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    wait: Callable[[], Tensor] = field(init=False)

    def look_ahead(self, part: Part, states: ModelStates) -> None:
        """Form the embeddings of a part's texts."""
        start = time.perf_counter()
        placed = [part.placed(ours) for ours in self.trainer.compared(part.batch, states)]
        self.known = [a + b for a, b in zip(self.known, placed, strict=True)] if self.known else placed
        self.seconds += time.perf_counter() - start

    def add(self, part: Part, states: ModelStates, last: bool) -> None:
        """Take a part; after the last one the sum over the workers is under way."""
        start = time.perf_counter()
        known: Sequence[Tensor | None] = self.known or [None] * (1 + len(self.trainer.students()))
        theirs, *ours = (self.workers.gather(part, embeddings) for embeddings in known)
        self.losses.append(self.trainer.add_gradients(part.batch, replace(states, gather=theirs), part.share, ours))
        if last:
            gradients = [p.grad for p in self.trainer.superlm.parameters.values() if p.grad is not None]
            self.wait = self.workers.start_sum(gradients, torch.stack(self.losses).sum(0))
        self.seconds += time.perf_counter() - start

    def finish(self, tokens: int) -> StepMetrics:
        """Update the weights; all workers have the same sums, and so decide alike.

        Raises:
            DivergedError: the loss of a student or the gradient is not finite.
        """
        start = time.perf_counter()
        losses = self.wait().tolist()
        by_size = sorted(zip(self.trainer.students(), losses, strict=True), key=lambda drawn: size_key(drawn[0]))
        for student, loss in by_size:
            if not math.isfinite(loss):
                raise self.trainer.diverged(f"the loss of {student.label} is {loss}")
        learning_rate, norm = self.trainer.update()
        return StepMetrics(
            sub_space=self.trainer.name,
            step=self.trainer.steps_done,
            tokens=tokens,
            loss=sum(losses) / len(losses),
            largest_loss=by_size[-1][1],
            smallest_loss=by_size[0][1],
            lr=learning_rate,
            grad_norm=norm,
            seconds=self.seconds + time.perf_counter() - start,
        )


def _target_states(
    trainers: Sequence[SuperLMTrainer], teacher: Teacher, batch: Batch, layer: int | None
) -> list[ModelStates]:
    """What each trainer's students are compared with; one forward for all trainers of one source."""
    output = any(trainer.objective.needs_output for trainer in trainers)
    hidden = any(trainer.objective.needs_hidden for trainer in trainers)
    sources: list[Targets] = [trainer.targets or teacher for trainer in trainers]
    layers = {id(source): (source, layer if source is teacher else None) for source in sources}
    with autocast(teacher.model.device, trainers[0].recipe.precision):
        states = {key: source.states(batch, own, output, hidden).for_many() for key, (source, own) in layers.items()}
    targets = batch.get(TARGETS)
    return [replace(states[id(source)], targets=targets) for source in sources]


DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Precision -> what students compute in. Shared weights, their gradients and the optimiser stay in fp32."""


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """What teachers compute under: bfloat16 autocast for `bf16`, nothing for `fp32`."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
