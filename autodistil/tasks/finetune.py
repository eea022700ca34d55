"""Fine-tuning on a task, as papers on small encoders do it: a small grid of learning rates, dev after each epoch.

The reported value is that of the best epoch, chosen on the evaluated split itself, as is usual for GLUE dev figures:
it flatters, so the last epoch's value is reported beside it. The learning rate is the one with the best mean over the
seeds. AdamW, linear warm-up over a tenth of the steps and linear decay to 0, as in BERT (Devlin et al. 2019).

The options are those of every evaluation, and are recorded with its results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from autodistil.errors import ConfigError, DivergedError
from autodistil.models.hf_folder import EvaluatedModel, usable_length
from autodistil.models.weight_decay import decayed_parameters
from autodistil.tasks.adapt.cross_entropy import CROSS_ENTROPY
from autodistil.tasks.adapt.method import BEFORE, Answers, Method
from autodistil.tasks.batching import BATCH_SIZE, TokenizedRows, shuffled_batches, sorted_batches
from autodistil.tasks.calibration import calibration_error, probabilities
from autodistil.tasks.catalogue import TaskData, score
from autodistil.utils import Progress, listed, resolve_device

DEFAULT_RATES = (5e-5, 1e-4, 3e-4)
"""Small students want larger learning rates than the 2e-5 to 5e-5 of BERT-base (Turc et al. 2019: up to 3e-4)."""

_WARMUP = 0.1
_WEIGHT_DECAY = 0.01
_CLIP = 1.0
_MINIMUM = {"seeds": 1, "max_train": 1, "epochs": 1, "batch_size": 1, "max_length": 8}

Scores = dict[str, float]
"""metric -> value."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What a method may be told; None leaves the choice to the method."""

    seeds: int | None = None
    """How many, from 0: 3 for fine-tuning, 1 for methods without chance."""
    max_train: int | None = None
    """Training rows at most: all for fine-tuning, 10,000 for a probe."""
    learning_rates: tuple[float, ...] = DEFAULT_RATES
    """Peak learning rates of fine-tuning; the best by the mean over seeds counts."""
    epochs: int | None = None
    """Epochs of fine-tuning; 3 to 5, more for small sets."""
    batch_size: int = 32
    """Rows a step of fine-tuning."""
    max_length: int = 128
    """Tokens after which a text or pair is cut."""
    device: str = "cpu"
    """A torch device."""

    def __post_init__(self) -> None:
        for name, minimum in _MINIMUM.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ConfigError(f"{name} = {value} is too small; allowed: {minimum} or more")
        for rate in self.learning_rates:
            if not (math.isfinite(rate) and 0 < rate < 1):
                raise ConfigError(f"learning rate {rate} is out of range; allowed: above 0 and below 1")
        if not self.learning_rates:
            raise ConfigError("no learning rate is given; give one or more, such as 1e-4")

    def of(self, *names: str) -> Mapping[str, Any]:
        """Some of the options, as plain values."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in names}


@dataclass(frozen=True)
class FineTuned:
    """The runs of the chosen learning rate."""

    learning_rate: float
    epochs: tuple[tuple[Scores, ...], ...]
    """Scores after each epoch, a row a seed."""
    grid: Mapping[float, float]
    """Learning rate -> mean over seeds of the headline metric at the best epoch; without those that diverged."""
    train_rows: int
    headline: str

    @property
    def best_epochs(self) -> tuple[int, ...]:
        """The best epoch of each seed on the evaluated split, from 1; the earliest of equal ones."""
        scores = ([result[self.headline] for result in run] for run in self.epochs)
        return tuple(1 + of_run.index(max(of_run)) for of_run in scores)

    @property
    def best(self) -> tuple[Scores, ...]:
        """Scores of each seed at its best epoch."""
        return tuple(run[epoch - 1] for run, epoch in zip(self.epochs, self.best_epochs, strict=True))

    @property
    def last(self) -> tuple[Scores, ...]:
        """Scores of each seed after its last epoch."""
        return tuple(run[-1] for run in self.epochs)


def fine_tune(
    model: EvaluatedModel, data: TaskData, settings: EvaluationSettings, seeds: Sequence[int], progress: Progress
) -> FineTuned:
    """Fine-tune for every learning rate and seed, and keep the best learning rate; one that diverges is out.

    Raises:
        DivergedError: no learning rate is left.
        TaskError: the task has no training split.
        TeacherError: the model cannot be loaded, or its family has no classification head.
    """
    train = data.train(settings.max_train)
    epochs, headline = settings.epochs or default_epochs(len(train)), data.task.headline
    runs: dict[float, list[tuple[Scores, ...]]] = {rate: [] for rate in settings.learning_rates}
    with progress.track(f"fine-tuning on {data.task.name}", len(runs) * len(seeds) * epochs) as advance:
        for seed, rate in product(seeds, settings.learning_rates):
            if rate not in runs:
                continue
            run = []
            try:
                with torch.random.fork_rng():  # torch's own generator is left as it was
                    for result in _after_each_epoch(model, data, settings, epochs, rate, seed):
                        run.append(result)
                        advance(1, f"learning rate {rate:g}, seed {seed}: {headline} {result[headline]:.3f}")
            except DivergedError as error:
                progress.say(str(error))
                del runs[rate]
            else:
                runs[rate].append(tuple(run))
    if not runs:
        raise DivergedError(
            f"fine-tuning on {data.task.name} diverged at every learning rate ({listed(settings.learning_rates)}); "
            "give lower ones, or look for a cause in the model"
        )
    grid = {rate: float(np.mean([max(s[headline] for s in run) for run in of_rate])) for rate, of_rate in runs.items()}
    rate = max(grid, key=lambda rate: grid[rate])
    return FineTuned(rate, tuple(runs[rate]), grid, len(train), headline)


def default_epochs(train_rows: int) -> int:
    """5 epochs under 10,000 rows, 4 under 50,000, else 3."""
    return 5 if train_rows < 10_000 else 4 if train_rows < 50_000 else 3


def _after_each_epoch(
    model: EvaluatedModel, data: TaskData, settings: EvaluationSettings, epochs: int, rate: float, seed: int
) -> Iterator[Scores]:
    """Train the model under a new head, by one learning rate and seed; yields the scores after each epoch."""
    torch.manual_seed(seed)
    train, evaluated = data.train(settings.max_train), data.evaluated
    pupil = Pupil.of(model, len(data.classes) or 1, settings)
    rows, tested = (pupil.tokenized(part.text_a, part.text_b) for part in (train, evaluated))
    targets = Targets.of(train.labels if not data.task.regression else standardised(train.labels).labels)
    for _ in trained_epochs(pupil, rows, targets, CROSS_ENTROPY, epochs, rate, seed):
        yield scored(data, evaluated.labels, pupil.answers(tested))


def scored(data: TaskData, labels: np.ndarray, answers: np.ndarray) -> Scores:
    """The metrics of a task by logits (rows, classes), and their calibration error; or by scores (rows, 1)."""
    if data.task.regression:
        return score(data.task.metrics, labels, answers[:, 0])
    found = score(data.task.metrics, labels, answers.argmax(1))
    return {**found, "ece": calibration_error(labels, probabilities(answers))}


# ---- one training


@dataclass(frozen=True)
class Standardised:
    """Scores with a mean of 0 and a deviation of 1: no metric of scores sees the difference."""

    labels: np.ndarray
    mean: float
    deviation: float


def standardised(labels: np.ndarray) -> Standardised:
    """Scores (rows,), standardised."""
    mean, deviation = float(labels.mean()), float(labels.std())
    return Standardised(((labels - mean) / deviation).astype(np.float32), mean, deviation)


@dataclass(frozen=True)
class Pupil:
    """A model under a head, and how it reads rows."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int
    """Tokens of a text or pair."""
    device: torch.device
    batch_size: int
    """Rows a step."""

    @classmethod
    def of(cls, model: EvaluatedModel, outputs: int | None, settings: EvaluationSettings) -> Pupil:
        """A model under a new head of so many numbers a row, drawn from torch's global generator; None: its own head.

        Raises:
            TeacherError: the model cannot be loaded, or its family has no classification head.
        """
        device, tokenizer = resolve_device(settings.device), model.tokenizer()
        network = model.fine_tuned(device) if outputs is None else model.classifier(outputs, device)
        length = usable_length(network, tokenizer, settings.max_length)
        return cls(network, tokenizer, length, device, settings.batch_size)

    @property
    def outputs(self) -> int:
        """Numbers a row."""
        return int(self.network.config.num_labels or 1)

    def tokenized(self, text_a: Sequence[str], text_b: Sequence[str] | None) -> TokenizedRows:
        """Rows as the model reads them."""
        rows = TokenizedRows.of(self.tokenizer, text_a, text_b, self.length)
        typed = "token_type_ids" in signature(self.network.forward).parameters
        return rows if typed else replace(rows, types=None)

    @torch.no_grad()
    def answers(self, rows: TokenizedRows) -> np.ndarray:
        """Logits or scores of rows, (rows, outputs)."""
        self.network.eval()
        found = np.empty((len(rows.ids), self.outputs), dtype=np.float32)
        for batch in sorted_batches(rows.lengths, BATCH_SIZE):
            found[batch] = self.network(**rows.batch(batch, self.device)).logits.cpu().numpy()
        return found


@dataclass(frozen=True)
class Targets:
    """What rows are taught."""

    labels: Tensor
    """Classes or scores, (rows,)."""
    known: Tensor
    """Which rows have a label, (rows,)."""
    teacher: Tensor | None = None
    """A fine-tuned teacher's answers, (rows, outputs)."""
    class_weights: Tensor | None = None

    @classmethod
    def of(cls, labels: np.ndarray) -> Targets:
        """Labels of all rows."""
        return cls(torch.from_numpy(labels), torch.ones(len(labels), dtype=torch.bool))


def trained_epochs(
    pupil: Pupil, rows: TokenizedRows, targets: Targets, method: Method, epochs: int, rate: float, seed: int
) -> Iterator[None]:
    """Train a model on rows; yields after each epoch.

    Args:
        pupil: trained in place.
        rows: texts.
        targets: theirs.
        method: the loss.
        epochs: how many, over which the learning rate warms up and falls to 0.
        rate: peak learning rate.
        seed: decides the order of rows.

    Raises:
        DivergedError: the loss or its gradient is not finite.
    """
    network, random, device = pupil.network, np.random.default_rng(seed), pupil.device
    decayed = decayed_parameters(network)
    groups = [
        {"params": [p for name, p in network.named_parameters() if (name in decayed) == decays], "weight_decay": decay}
        for decays, decay in ((True, _WEIGHT_DECAY), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    steps = epochs * -(-len(rows.ids) // pupil.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, int(_WARMUP * steps), steps)
    before: Tensor | None = None
    own = torch.zeros(len(rows.ids), pupil.outputs)
    done = 0
    for _ in range(epochs):
        network.train()
        for batch in shuffled_batches(rows.lengths, pupil.batch_size, random):
            logits = network(**rows.batch(batch, device)).logits
            loss = method.loss(_answers(logits, batch, targets, done / steps, before)).mean()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
            if not (loss.isfinite() and norm.isfinite()):
                raise DivergedError(
                    f"learning rate {rate:g}, seed {seed}: diverged at a loss of {float(loss.detach()):g}"
                )
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            own[batch] = logits.detach().float().cpu()
            done += 1
        before = own.clone() if BEFORE in method.needs else None
        yield


def _answers(logits: Tensor, batch: np.ndarray, targets: Targets, progress: float, before: Tensor | None) -> Answers:
    def part(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[batch].to(logits.device)

    labels, known = targets.labels[batch].to(logits.device), targets.known[batch].to(logits.device)
    weights = None if targets.class_weights is None else targets.class_weights.to(logits.device)
    return Answers(logits, labels, known, progress, part(targets.teacher), part(before), weights)
