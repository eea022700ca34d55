"""What the stages of a run share: teacher, search space, text, objective and SuperLMs, loaded when first needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig

from autodistil.config import RUN_OPTIONS, RunConfig, layered
from autodistil.costs.closed_form import COST_COLUMNS, KV_BYTES, cost_table
from autodistil.data.batch import PADDING, Batch, lengths
from autodistil.data.image_batches import RunImages
from autodistil.data.texts import SENTENCES_PER_SEQUENCE, RunText, RunTexts
from autodistil.data.tokens import special_affixes
from autodistil.errors import ConfigError, RunError, TeacherError
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.factorised import check_factorisable
from autodistil.models.families import family_of
from autodistil.models.layer_maps import LAYER_MAPS, LayerMap
from autodistil.models.ordering import ORDERS, ImportanceOrder, apply_order
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher, load_config, load_teacher
from autodistil.models.vocabulary import (
    Vocabulary,
    config_token_ids,
    order_vocabulary,
    required_ids,
    spellings,
    token_counts,
)
from autodistil.objectives.objective import NEXT_TOKEN, Objective, resolve_objective
from autodistil.run.folder import RunFolder, merge_with_run
from autodistil.run.tracking import GuardedTracker, TrackedRun
from autodistil.space.files import load_space, space_to_dict
from autodistil.space.fit import auto_space, check_fits, fit_vocabulary
from autodistil.space.space import SearchSpace, StudentSet, SubSpace
from autodistil.space.student import Candidate, StudentConfig
from autodistil.training.assistant import (
    StudentAssistant,
    check_objective,
    is_sub_space,
    load_assistant,
    taught_by_model,
    taught_by_sub_space,
)
from autodistil.training.checkpoint import WEIGHTS, load_weights
from autodistil.training.trainer import Targets
from autodistil.utils import Progress, resolve_device

SPACE_OF_TEACHER = {
    StudentConfig(6, 384, 12, 32, 1536): "minilm-l6-h384",
    StudentConfig(12, 768, 12, 64, 3072): "bert-base",
    StudentConfig(6, 128, 8, 16, 512): "vit-l6-h128",
    StudentConfig(30, 576, 9, 64, 1536): "smollm2-135m",
}
"""Teacher dimensions -> the shipped space that is made for them."""

SAMPLE_TEXTS, SAMPLE_BATCH = 256, 64
"""Training texts on which the teacher's dimensions are ranked, and how many at a time."""


def space_for(name: str | None, config: PretrainedConfig) -> SearchSpace:
    """The search space of a run, checked to fit its teacher.

    Args:
        name: a shipped space, a YAML file or `auto`; None for the one shipped for such a teacher, else `auto`.
        config: the teacher's.

    Raises:
        SpaceError: unknown, malformed, larger than the teacher, or not for its family.
    """
    family = family_of(config)
    teacher = family.dimensions(config)
    made_for_it, name = name not in (None, "auto"), name or SPACE_OF_TEACHER.get(teacher, "auto")
    space = auto_space(teacher, queries_per_kv=family.queries_per_kv(config)) if name == "auto" else load_space(name)
    space = space if made_for_it else family.fit_space(space)
    check_fits(space, teacher)
    family.check_space(space, config)
    return space


@dataclass
class RunContext:
    """One run: its folder and configuration, and what they stand for."""

    folder: RunFolder
    config: RunConfig
    progress: Progress = field(default_factory=Progress)
    _retokenised: dict[int, HeldOut] = field(default_factory=dict, init=False, repr=False)
    _trained: dict[str, SuperLM] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def open(cls, run: Path | None, *layers: Mapping[str, Any], progress: Progress | None = None) -> RunContext:
        """The run in folder `run` (by default `runs/<teacher>-<space>`), its configuration under `layers`.

        Raises:
            AutodistilError: an option, the folder, teacher or space is wrong; nothing was touched.
        """
        folder = RunFolder(run if run is not None else default_folder(layered(*layers)))
        return cls(folder, merge_with_run(folder, *layers), progress or Progress())

    @cached_property
    def device(self) -> torch.device:
        """Where to compute.

        Raises:
            ConfigError: the accelerator is not there.
        """
        return resolve_device(self.config.device)

    @cached_property
    def teacher(self) -> Teacher:
        """The frozen teacher, the same as when the run was begun."""
        teacher = load_teacher(self.config.teacher, str(self.device), self.config.trust_remote_code)
        self._check_unchanged("teacher_fingerprint", teacher.fingerprint, "teacher")
        layer, depth = self.config.teacher_layer, teacher.dims.num_layers
        if layer is not None and layer >= depth:
            raise ConfigError(f"teacher_layer = {layer} is not there; allowed: 0 to {depth - 1}")
        positions = teacher.max_length
        if teacher.images is not None:
            self._check_image_length(positions)
        elif self.config.seq_len > positions:
            raise ConfigError(f"seq_len = {self.config.seq_len} is longer than the teacher's {positions} positions")
        return teacher

    def _check_image_length(self, tokens: int) -> None:
        """Refuse another length than an image has; the default is that of texts."""
        if self.config.seq_len not in (RunConfig.seq_len, tokens):
            raise ConfigError(
                f"seq_len = {self.config.seq_len} is for text, this teacher reads every image as {tokens} tokens; "
                "leave it out"
            )

    @property
    def seq_len(self) -> int:
        """Tokens of a training sequence, or of an image: the length at which costs are stated."""
        return self.config.seq_len if self.teacher.images is None else self.teacher.max_length

    @cached_property
    def space(self) -> SearchSpace:
        """The search space, the same as when the run was begun."""
        space = space_for(self.config.space, self.teacher.model.config)
        if space.factorises_embeddings:
            check_factorisable(self.teacher.family, self.teacher.model.config)
        if space.prunes_vocabulary:
            space = fit_vocabulary(space, len(self._required_tokens()), self.teacher.model.config.vocab_size)
        self._check_unchanged("space", space_to_dict(space), "search space")
        return space

    @cached_property
    def objective(self) -> Objective:
        """The distillation objective with its relation heads."""
        assistant = self.assistant_model
        return resolve_objective(
            self.config.objective,
            self.config.relation_heads,
            self.teacher.kv_width(self.teacher.dims),
            [*self.relation_widths, *([assistant.kv_width(assistant.dims)] if assistant else [])],
            self.teacher.pooling,
            self.teacher.family.causal,
        )

    @property
    def relation_widths(self) -> list[int]:
        """Widths of students' keys and values, ascending: what relation heads have to divide."""
        return sorted({self.teacher.kv_width(candidate.config) for candidate in self.space.candidates})

    @cached_property
    def measure(self) -> Objective:
        """What ranks students on held-out text.

        Raises:
            ConfigError: perplexity of an encoder.
        """
        causal, metric = self.teacher.family.causal, self.config.metric
        if metric == "perplexity" and not causal:
            raise ConfigError("metric = perplexity is for decoders, not for encoders; allowed: auto, objective")
        if metric == "objective" or not causal:
            return self.objective
        return replace(self.objective, terms=((1.0, NEXT_TOKEN),))

    @property
    def ranks_by_perplexity(self) -> bool:
        """Whether the loss of students is the logarithm of their perplexity."""
        return self.measure.name == NEXT_TOKEN

    @cached_property
    def assistant_model(self) -> Teacher | None:
        """The assistant where it is a model of its own, the same as when the run was begun; None where there is none.

        Raises:
            ConfigError: there is no such model, or it reads text otherwise than the teacher does.
        """
        name = self.config.assistant
        if name is None or is_sub_space(name, self.space):
            return None
        assistant = load_assistant(name, self.teacher, self.seq_len, self.config.trust_remote_code)
        self._check_unchanged("assistant_fingerprint", assistant.fingerprint, "assistant")
        return assistant

    @cached_property
    def taught(self) -> frozenset[str]:
        """Names of the sub-spaces that the assistant teaches; the teacher teaches all others.

        Raises:
            ConfigError: there are none, or the assistant cannot teach them with this objective.
        """
        name, model = self.config.assistant, self.assistant_model
        if name is None:
            return frozenset()
        dims = model.dims if model else self.space.sub_space(name).largest
        taught = taught_by_model(model, self.space) if model else taught_by_sub_space(name, self.space)
        check_objective(self.objective, name, dims, taught)
        return frozenset(sub.name for sub in taught)

    @cached_property
    def _assistant(self) -> Targets:
        """The assistant; one of the run must have been trained."""
        if self.assistant_model is not None:
            return self.assistant_model
        assert self.config.assistant is not None
        sub = self.space.sub_space(self.config.assistant)
        return StudentAssistant(self.trained_superlm(sub), sub.largest)

    def targets_for(self, name: str) -> Targets | None:
        """What teaches the SuperLM of a sub-space, or a student of it alone; None: the teacher.

        Args:
            name: the sub-space's, or the student's id (which begins with it; no name holds a hyphen).
        """
        return self._assistant if name.partition("-")[0] in self.taught else None

    def with_assistant(self, sub_spaces: Sequence[SubSpace]) -> list[SubSpace]:
        """`sub_spaces` and the one whose largest student has to be trained to teach some of them, in their order."""
        untaught = any(sub.name in self.taught and not self.is_trained(sub) for sub in sub_spaces)
        needed = {sub.name for sub in sub_spaces} | ({self.config.assistant} if untaught else set())
        return [sub for sub in self.space.sub_spaces if sub.name in needed]

    @cached_property
    def importance_order(self) -> ImportanceOrder:
        """The teacher's dimensions and layers by importance; kept in the run folder, so that slices never change."""
        path = self.folder.path / "importance.safetensors"
        if not path.is_file():
            rank = ORDERS["both" if self.config.order == "none" else self.config.order]
            with self.progress.track("ranking the teacher's dimensions", 0):
                rank(self.teacher, self._sample_batches()).order().save(path)
        return ImportanceOrder.load(path)

    def _sample_batches(self) -> list[Batch]:
        """A little training text, in batches by length, so that little is padding; less of it for large decoders."""
        count = SAMPLE_TEXTS // SENTENCES_PER_SEQUENCE if self.teacher.family.causal else SAMPLE_TEXTS
        texts = self.training_text.sample(count)
        texts = texts[np.argsort(lengths(texts), kind="stable")]
        parts = np.split(texts, range(SAMPLE_BATCH, len(texts), SAMPLE_BATCH))
        return [self.teacher.inputs.batch(part, self.device) for part in parts]

    @cached_property
    def ordered_teacher(self) -> Teacher:
        """The teacher in importance order: what SuperLMs start from and are distilled from."""
        return self.teacher if self.config.order == "none" else apply_order(self.teacher, self.importance_order)

    @cached_property
    def layer_map(self) -> LayerMap:
        """Which teacher layers shallower students start from."""
        if self.config.layer_map == "influence":
            return self.importance_order.influential_layers
        return LAYER_MAPS[self.config.layer_map]

    @cached_property
    def text(self) -> RunTexts:
        """The run's text, or images."""
        return _TEXTS[self.teacher.family.modality](self)

    @cached_property
    def training_text(self) -> RunTexts:
        """The text to train on.

        Raises:
            RunError: it is not the one that this run's training was begun with.
        """
        self._check_unchanged("corpus_content", self.text.corpus.content_hash, "text")
        return self.text

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The teacher's tokens by their use in the training text; kept in the run folder, so that it never changes."""
        path = self.folder.path / "vocabulary.npz"
        if not path.is_file():
            rows = self.teacher.model.config.vocab_size
            counts = token_counts(self._training_tokens.corpus.train.tokens, rows)
            order_vocabulary(self.teacher.tokenizer, rows, self._required_tokens(), counts).save(path)
        return Vocabulary.load(path)

    @property
    def _training_tokens(self) -> RunText:
        """The text of a teacher that reads text."""
        text = self.training_text
        assert isinstance(text, RunText)
        return text

    def _required_tokens(self) -> list[int]:
        return required_ids(self.teacher.tokenizer, config_token_ids(self.teacher.model.config).values())

    def heldout_for(self, student: StudentConfig) -> HeldOut:
        """Held-out text as a student with such a vocabulary reads it."""
        size = student.vocab_size
        if size is None:
            return self.heldout
        if size not in self._retokenised:
            texts = self.heldout_texts
            spelled = spellings(self.teacher.tokenizer, self.vocabulary, size, np.unique(texts[texts != PADDING]))
            self._retokenised[size] = HeldOut.build(
                self.ordered_teacher, texts, self.measure, self.config.teacher_layer, spelled
            )
        return self._retokenised[size]

    @cached_property
    def heldout(self) -> HeldOut:
        """Held-out texts with the teacher's states."""
        return HeldOut.build(self.ordered_teacher, self.heldout_texts, self.measure, self.config.teacher_layer)

    @cached_property
    def teacher_perplexity(self) -> float:
        """That of a decoder on the held-out text."""
        teacher = self.ordered_teacher
        return math.exp(self.heldout.mean_of(lambda batch: teacher.states(batch, output=True)))

    @cached_property
    def heldout_texts(self) -> np.ndarray:
        """Held-out texts (texts, tokens)."""
        return self.text.draw_heldout(self.folder.path / "heldout.npy")

    def new_superlm(self, sub_space: StudentSet, vocabulary: Vocabulary | None = None) -> SuperLM:
        """A SuperLM that starts from the teacher; training needs no vocabulary."""
        fit = sub_space.embedding_size is not None and not self.is_trained(sub_space)
        tokens = torch.from_numpy(self._training_tokens.sample_sequences(64)) if fit else None
        return SuperLM.from_teacher(self.ordered_teacher, sub_space, self.layer_map, vocabulary, tokens)

    def trained_superlm(self, sub_space: SubSpace) -> SuperLM:
        """A SuperLM with its trained weights, read once."""
        if sub_space.name not in self._trained:
            superlm = self.new_superlm(sub_space, self.vocabulary if sub_space.vocab_size else None)
            load_weights(superlm, self.folder.superlm_folder(sub_space.name))
            self._trained[sub_space.name] = superlm
        return self._trained[sub_space.name]

    def is_trained(self, sub_space: StudentSet) -> bool:
        """Whether the sub-space's SuperLM has finished its training."""
        return (self.folder.superlm_folder(sub_space.name) / WEIGHTS).is_file()

    def teacher_costs(self) -> dict[str, Any]:
        """The teacher's own costs, under the names of the cost table."""
        table = cost_table([Candidate("teacher", self.teacher.dims)], self.teacher.encoder_shape, self.seq_len)
        return {key: table[key].iloc[0].item() for key in (*COST_COLUMNS, KV_BYTES) if key in table}

    def vocabulary_facts(self, student: StudentConfig) -> dict[str, str]:
        """What to say about a pruned vocabulary; nothing of a whole one."""
        if student.vocab_size is None:
            return {}
        prefix, suffix = special_affixes(self.teacher.tokenizer)
        text = self.heldout_texts[self.heldout_texts != PADDING]
        text = text[~np.isin(text, [*prefix, *suffix])]
        share = self.vocabulary.coverage(text, student.vocab_size)
        whole = self.teacher.model.config.vocab_size
        means = [reading.means for reading in self.heldout_for(student).readings]
        stretch = sum(int((part > 0).sum()) for part in means) / sum(part[..., 0].numel() for part in means)
        return {
            "vocabulary": f"the {student.vocab_size:,} most used of {whole:,} tokens, {100 * share:.1f} % of the "
            f"held-out text; the rest is read as smaller pieces, which makes a text {stretch:.2f} times as long"
        }

    def resolved(self) -> dict[str, Any]:
        """What `run.yaml` says the configuration was resolved to so far."""
        return dict(self.folder.record()["resolved"]) if self.folder.exists() else {}

    @cached_property
    def tracker(self) -> GuardedTracker:
        """The experiment tracker, opened once it is told something; the run must have its record by then."""
        return GuardedTracker(self.config.track, self._tracked_run, self.progress.say)

    def _tracked_run(self) -> TrackedRun:
        fixed = {**self.config.to_dict(), **{key: self.resolved().get(key) for key in ("objective", "train_steps")}}
        options = {name: str(fixed[name]) for name in sorted(RUN_OPTIONS)}
        return TrackedRun(self.folder.identity(), self.folder.path.resolve().name, self.folder.path, options)

    def record(self, **resolved: Any) -> None:
        """Write `run.yaml` with the configuration and what is known by now."""
        known = {
            **self.resolved(),
            "teacher_fingerprint": self.teacher.fingerprint,
            "space": space_to_dict(self.space),
            "objective": self.objective.name,
            "relation_heads": self.objective.options.relation_heads,
            **({"assistant_fingerprint": self.assistant_model.fingerprint} if self.assistant_model else {}),
            **resolved,
        }
        self.folder.write_record(self.config, known)

    def _check_unchanged(self, key: str, value: Any, what: str) -> None:
        stored = self.resolved().get(key)
        if stored is not None and stored != value:
            raise RunError(
                f"run folder {str(self.folder.path)!r} was made with another {what}; give another --run folder"
            )


def _run_text(context: RunContext) -> RunText:
    config, teacher = context.config, context.teacher
    sentences = config.text_unit == "sentences" or (config.text_unit == "auto" and teacher.pooling is not None)
    return RunText(config, teacher.tokenizer, sentences, teacher.padding_id, context.device, context.progress)


def _run_images(context: RunContext) -> RunImages:
    teacher = context.teacher
    assert teacher.images is not None
    return RunImages(context.config, teacher.images, teacher.max_length, context.device, context.progress)


_TEXTS: Mapping[str, Callable[[RunContext], RunTexts]] = {"text": _run_text, "image": _run_images}
"""What a teacher reads -> the corpus of its runs."""


def default_folder(config: RunConfig) -> Path:
    """`runs/<teacher>-<space>`."""
    hf_config = load_config(config.teacher, config.trust_remote_code)
    space = space_for(config.space, hf_config)
    teacher = Path(config.teacher).name or Path(config.teacher).resolve().name
    if not teacher:
        raise TeacherError(f"teacher {config.teacher!r} has no name to call a folder by; give --run a folder")
    return Path("runs") / f"{teacher}-{space.name}"
