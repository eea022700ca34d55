"""Fine-tuning on a task, as papers on small encoders do it: a small grid of learning rates, dev after each epoch.

The reported value is that of the best epoch, chosen on the evaluated split itself, as is usual for GLUE dev figures:
it flatters, so the last epoch's value is reported beside it. The learning rate is the one with the best mean over the
seeds.

The options are those of every evaluation, and are recorded with its results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autodistil.data.batch import Batch
from autodistil.errors import ConfigError, DivergedError
from autodistil.formats.pairs import takes_types
from autodistil.models.hf_folder import EvaluatedModel, usable_length
from autodistil.models.image_processor import ImageReader, image_tokens, load_image_classifier
from autodistil.models.quantised import compute_rounded
from autodistil.tasks.adapt.method import BEFORE, COUNTS, DROPPED, MOVED, SWAPPED, Answers
from autodistil.tasks.adapt.method_sum import PLAIN, MethodSum, read_methods
from autodistil.tasks.batching import BATCH_SIZE, TokenizedRows, sorted_batches
from autodistil.tasks.calibration import calibration_error, probabilities
from autodistil.tasks.catalogue import Split, TaskData
from autodistil.tasks.descent import Descent
from autodistil.tasks.file_forward import Forward, file_forward
from autodistil.tasks.image_batching import ImageRows
from autodistil.tasks.span_finder import SpanTuning, span_training
from autodistil.utils import Progress, listed, resolve_device

DEFAULT_RATES = (5e-5, 1e-4, 3e-4)
"""Small students want larger learning rates than the 2e-5 to 5e-5 of BERT-base (Turc et al. 2019: up to 3e-4)."""

_HIDDEN = 0.1
"""Share of the tokens that are hidden in a view with tokens dropped."""
_FEW_ROWS, _FEW_ROWS_EPOCHS = 1_000, 20
_BEFORE, _START = "before", "start."
"""Names of tensors: of the answers an epoch ago, and of the weights that a training started with."""
_MINIMUM = {
    "seeds": 1,
    "max_train": 1,
    "epochs": 1,
    "batch_size": 1,
    "max_length": 8,
    "truncate_dim": 1,
    "exit_layer": 1,
    "neighbours": 1,
}

Rows = TokenizedRows | ImageRows
"""What a model reads."""
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
    index_by: str | None = None
    """A model that embeds the documents of a collection in the place of the one that is scored."""
    truncate_dim: int | None = None
    """Leading dimensions of embeddings to score; as the model's folder says, or all, unless given."""
    exit_layer: int | None = None
    """How many of the model's first layers to run; all unless given."""
    vectors: str | None = None
    """How embeddings are stored before they are compared (`evaluation.vector_codes`); as they are unless given."""
    neighbours: int = 20
    """Training rows that vote on the class of another (`evaluation.nearest_neighbours`)."""
    labels: float | None = None
    """Share of each class's training rows that are trained on, or that vote, above 0 and up to 1; all unless given."""

    def __post_init__(self) -> None:
        for name, minimum in _MINIMUM.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ConfigError(f"{name} = {value} is too small; allowed: {minimum} or more")
        for rate in self.learning_rates:
            if not (math.isfinite(rate) and 0 < rate < 1):
                raise ConfigError(f"learning rate {rate} is out of range; allowed: above 0 and below 1")
        if self.labels is not None and not 0 < self.labels <= 1:
            raise ConfigError(f"labels = {self.labels} is no share; allowed: above 0 and up to 1")
        if not self.learning_rates:
            raise ConfigError("no learning rate is given; give one or more, such as 1e-4")

    @property
    def asks_otherwise(self) -> bool:
        """Whether what is scored is not what the folder makes by itself."""
        return self.index_by is not None or self.cut is not None or self.vectors is not None

    @property
    def cut(self) -> str | None:
        """The option by which not all of the model is scored; None where all is."""
        return next((name for name in ("truncate_dim", "exit_layer") if getattr(self, name) is not None), None)

    def of_embeddings(self, *names: str) -> Mapping[str, Any]:
        """Options that decide embeddings, and further ones."""
        asked = [name for name in ("truncate_dim", "exit_layer", "vectors") if getattr(self, name)]
        return self.of("max_length", *asked, *names)

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
    train = _train(data, settings, 0)
    epochs, headline = settings.epochs or default_epochs(len(train), settings.labels), data.task.headline
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


def default_epochs(train_rows: int, labels: float | None = None) -> int:
    """5 epochs under 10,000 rows, 4 under 50,000, else 3; of a share of the labels below 1,000 rows 20.

    Few rows are few steps, and want more epochs (Mosbach et al. 2021, arXiv 2006.04884).
    """
    if (labels or 1.0) < 1 and train_rows < _FEW_ROWS:
        return _FEW_ROWS_EPOCHS
    return 5 if train_rows < 10_000 else 4 if train_rows < 50_000 else 3


def _train(data: TaskData, settings: EvaluationSettings, seed: int) -> Split:
    """The training rows; where a share of the labels is asked for, each seed draws its own."""
    share = settings.labels or 1.0
    return data.train(settings.max_train, seed if share < 1 else 0, share)


def _after_each_epoch(
    model: EvaluatedModel, data: TaskData, settings: EvaluationSettings, epochs: int, rate: float, seed: int
) -> Iterator[Scores]:
    """Train the model under a new head, by one learning rate and seed; yields the scores after each epoch."""
    torch.manual_seed(seed)
    begin, train = span_training if data.task.spans else _training, _train(data, settings, seed)
    tuning, answers = begin(model, data, train, settings, epochs, rate, seed)
    while tuning.done < epochs:
        tuning.epoch()
        yield scored(data, data.evaluated, answers())


def _training(
    model: EvaluatedModel,
    data: TaskData,
    train: Split,
    settings: EvaluationSettings,
    epochs: int,
    rate: float,
    seed: int,
) -> tuple[FineTuning | SpanTuning, Callable[[], np.ndarray]]:
    """A training on rows, and the logits of the evaluated ones by now."""
    objective = read_methods(PLAIN, False, len(data.classes) or 1, data.task.pairs)
    pupil = Pupil.of(model, objective.outputs, settings, data.task.words)
    rows, tested = (pupil.tokenized(part.text_a, part.text_b) for part in (train, data.evaluated))
    targets = Targets.of(train.labels if not data.task.regression else standardised(train.labels).labels)
    return FineTuning(pupil, rows, targets, objective, epochs, rate, seed), lambda: pupil.answers(tested)


def scored(data: TaskData, split: Split, answers: np.ndarray) -> Scores:
    """The metrics of a task by logits (units, classes), and their calibration error; or by scores (rows, 1).

    Of spans by what is answered to each question, texts (rows,).
    """
    if data.task.spans:
        return data.scores(split, answers)
    if data.task.regression:
        return data.scores(split, answers[:, 0])
    found = data.scores(split, answers.argmax(1))
    return {**found, "ece": calibration_error(split.labels, probabilities(answers))}


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
    """A model under a head, and how it reads rows. It answers by unit: a row, or a word where words have classes."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    """None where it reads images."""
    length: int
    """Tokens of a text or pair, at most, or of an image."""
    device: torch.device
    batch_size: int
    """Rows a step."""
    words: bool
    """Words have classes."""
    forward: Forward | None = None
    """Computes the answers in the place of the network: an ONNX file."""
    images: ImageReader | None = None
    """Reads image files, where it reads these."""

    @classmethod
    def of(cls, model: EvaluatedModel, outputs: int | None, settings: EvaluationSettings, words: bool = False) -> Pupil:
        """A model under a new head of so many numbers a unit, drawn from torch's global generator; None: its own head.

        Raises:
            TeacherError: the model cannot be loaded, or its family has no classification head.
        """
        device = resolve_device(settings.device)
        forward = None if model.file is None else file_forward(model)
        if model.reads_images:
            network, images = load_image_classifier(model, device, outputs)
            length = image_tokens(network.config)
            return cls(network, None, length, device, settings.batch_size, False, forward, images)
        tokenizer = model.tokenizer()
        if outputs is None:
            network, words = model.fine_tuned(device), model.tags_words
        else:
            network = model.classifier(outputs, device, words)
            compute_rounded(network)
        length = usable_length(network, tokenizer, settings.max_length)
        return cls(network, tokenizer, length, device, settings.batch_size, words, forward)

    @property
    def outputs(self) -> int:
        """Numbers a unit."""
        return self.head.out_features

    @property
    def head(self) -> nn.Linear:
        """The last linear map above the encoder, which makes the answers."""
        encoder = set(self.network.base_model.modules())  # some families register it behind the head
        own = (module for module in self.network.modules() if module not in encoder)
        *_, head = (module for module in own if isinstance(module, nn.Linear))
        return head

    def save(self, folder: Path) -> None:
        """Write the network and what reads rows for it, as Hugging Face folders have them."""
        self.network.eval().save_pretrained(folder)
        reads: Any = self.tokenizer if self.images is None else self.images.processor
        reads.save_pretrained(folder)

    def tokenized(self, text_a: Sequence[str], text_b: Sequence[str] | None) -> Rows:
        """Rows as the model reads them: texts or pairs, or files of images."""
        if self.images is not None:
            return ImageRows.of(self.images, self.network.config, text_a)
        assert self.tokenizer is not None
        rows = TokenizedRows.of(self.tokenizer, text_a, text_b, self.length, self.words)
        return rows if takes_types(self.network) else replace(rows, types=None)

    def answers(self, rows: Rows) -> np.ndarray:
        """Logits or scores, (units, outputs); of words that were cut off zeros, whose first class is `O`."""
        answers = np.zeros((len(rows.seen), self.outputs), dtype=np.float32)
        for batch, logits in self._logits(rows):
            answers[rows.units(batch)] = rows.by_unit(logits, batch).cpu().numpy()
        return answers

    def read(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The `answers`, and the features that the head makes them of, (units, width)."""
        answers = np.zeros((len(rows.seen), self.outputs), dtype=np.float32)
        features = np.zeros((len(rows.seen), self.head.in_features), dtype=np.float32)
        seen: list[Tensor] = []
        with self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
            for batch, logits in self._logits(rows):
                units = rows.units(batch)
                answers[units] = rows.by_unit(logits, batch).cpu().numpy()
                features[units] = rows.by_unit(seen.pop(), batch).cpu().numpy()
        return answers, features

    def _logits(self, rows: Rows) -> Iterator[tuple[np.ndarray, Tensor]]:
        """What it answers batch by batch: indices of rows, and logits of them or of their tokens."""
        self.network.eval()
        forward = self.forward or (lambda inputs: self.network(**inputs).logits)
        for batch in sorted_batches(rows.lengths, BATCH_SIZE):
            with torch.no_grad():
                logits = forward(rows.batch(batch, self.device))
            yield batch, logits


@dataclass(frozen=True)
class Targets:
    """What rows are taught."""

    labels: Tensor
    """Classes or scores, (units,)."""
    known: Tensor
    """Which units have a label, (units,)."""
    teacher: Tensor | None = None
    """A fine-tuned teacher's answers, (units, outputs)."""
    class_weights: Tensor | None = None
    told: Sequence[Tensor | None] | None = None
    """What the preparation of each method found, (units, anything)."""

    @classmethod
    def of(cls, labels: np.ndarray) -> Targets:
        """Labels of all units."""
        return cls(torch.from_numpy(labels), torch.ones(len(labels), dtype=torch.bool))


class FineTuning:
    """A training of a model on rows, epoch by epoch."""

    def __init__(
        self,
        pupil: Pupil,
        rows: Rows,
        targets: Targets,
        objective: MethodSum,
        epochs: int,
        rate: float,
        seed: int,
        swapped: Rows | None = None,
    ) -> None:
        """Make ready.

        Args:
            pupil: trained in place.
            rows: texts, or images.
            targets: theirs.
            objective: whose loss falls.
            epochs: how many, over which the learning rate warms up and falls to 0.
            rate: peak learning rate.
            seed: decides the order of rows.
            swapped: pairs in the other order, for methods that need it.
        """
        self.pupil, self.rows, self.targets, self.objective, self.swapped = pupil, rows, targets, objective, swapped
        moves = MOVED in objective.needs
        self._start = {name: p.detach().clone() for name, p in _attention(pupil.network).items() if moves}
        self._own = torch.zeros(len(targets.labels), objective.classes) if BEFORE in objective.needs else None
        labels = targets.labels[targets.known].long()
        self._counts = (
            torch.bincount(labels, minlength=objective.classes).float() if COUNTS in objective.needs else None
        )
        self._before: Tensor | None = None
        self._descent = Descent(pupil.network, rows.lengths, self._loss, pupil.batch_size, epochs, rate, seed)

    @property
    def done(self) -> int:
        """Epochs."""
        return self._descent.done

    def epoch(self) -> None:
        """Train for another epoch.

        Raises:
            DivergedError: the loss or its gradient is not finite.
        """
        self._descent.epoch()
        self._before = None if self._own is None else self._own.clone()

    def tensors(self) -> dict[str, Tensor]:
        """All that the next epoch depends on, by name."""
        before = {} if self._before is None else {_BEFORE: self._before}
        start = {f"{_START}{name}": value for name, value in self._start.items()}
        return {**self._descent.tensors(), **start, **before}

    def restore(self, tensors: Mapping[str, Tensor], done: int) -> None:
        """Go on from what `tensors` gave after so many epochs."""
        self._descent.restore(tensors, done)
        self._before = tensors.get(_BEFORE)
        device = self.pupil.device
        self._start = {name: tensors[f"{_START}{name}"].to(device) for name in self._start}

    def _loss(self, batch: np.ndarray, progress: float) -> Tensor:
        answers, told = self._answers(batch, progress)
        if self._own is not None:
            self._own[self.rows.units(batch)] = answers.logits.detach().float().cpu()
        losses = self.objective.loss(answers, told)
        return losses.mean() if len(losses) else losses.sum()  # no word of these rows has a token

    def _answers(self, batch: np.ndarray, progress: float) -> tuple[Answers, Sequence[Tensor | None]]:
        """What methods look at of a batch, and what each one's preparation found of it."""
        needs, device = self.objective.needs, self.pupil.device

        targets, inputs, units = self.targets, self.rows.batch(batch, device), self.rows.units(batch)

        def part(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[units].to(device)

        logits, further = self._outputs(inputs, batch)
        answers = whole = Answers(
            logits=logits,
            labels=targets.labels[units].to(device),
            known=targets.known[units].to(device),
            progress=progress,
            teacher=part(targets.teacher),
            before=part(self._before),
            class_weights=None if targets.class_weights is None else targets.class_weights.to(device),
            further=further,
            counts=None if self._counts is None else self._counts.to(device),
        )
        if DROPPED in needs:
            logits, further = self._outputs(self.rows.hidden(inputs, _HIDDEN), batch)
            answers = replace(answers, dropped=replace(whole, logits=logits, further=further))
        if SWAPPED in needs:
            assert self.swapped is not None
            logits, further = self._outputs(self.swapped.batch(batch, device), batch)
            answers = replace(answers, swapped=replace(whole, logits=logits, further=further))
        if MOVED in needs:
            now = _attention(self.pupil.network)
            apart = (torch.sum((now[name] - start).square()) for name, start in self._start.items())
            answers = replace(answers, moved=sum(apart, torch.zeros((), device=device)))
        told = targets.told or [None] * len(self.objective.terms)
        return answers, [part(values) for values in told]

    def _outputs(self, inputs: Batch, batch: np.ndarray) -> tuple[Tensor, Tensor]:
        """Logits of classes, and further outputs, of each unit of a batch."""
        outputs = self.rows.by_unit(self.pupil.network(**inputs).logits, batch)
        return outputs[:, : self.objective.classes], outputs[:, self.objective.classes :]


def _attention(network: PreTrainedModel) -> dict[str, Tensor]:
    """The attention's parameters by name."""
    return {name: p for name, p in network.named_parameters() if "attention" in name or "attn" in name}
