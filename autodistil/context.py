"""What the stages of a run share: teacher, search space, text, objective and SuperLMs, loaded when first needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autodistil.attention import Batch
from autodistil.config import RunConfig, layered
from autodistil.costs import COST_COLUMNS, cost_table
from autodistil.data import (
    MIN_HELDOUT_TOKENS,
    PackedSequences,
    TokenizedCorpus,
    TokenStream,
    batch_indices,
    special_affixes,
    tokenize_corpus,
)
from autodistil.errors import ConfigError, CorpusError, RunError, TeacherError
from autodistil.evaluation.heldout import HeldOut
from autodistil.factorised import check_factorisable
from autodistil.families import family_of
from autodistil.files import atomic_path
from autodistil.objectives import Objective, resolve_objective
from autodistil.progress import Progress
from autodistil.pruned_tokenizer import spellings
from autodistil.run import RunFolder, merge_with_run
from autodistil.spaces import (
    Candidate,
    SearchSpace,
    StudentConfig,
    SubSpace,
    auto_space,
    check_fits,
    fit_vocabulary,
    load_space,
    space_to_dict,
)
from autodistil.superlm import SuperLM
from autodistil.teacher import Teacher, load_config, load_teacher
from autodistil.training.checkpoint import WEIGHTS, load_weights
from autodistil.vocabulary import Vocabulary, config_token_ids, order_vocabulary, required_ids, token_counts

SPACE_OF_TEACHER = {
    StudentConfig(6, 384, 12, 32, 1536): "minilm-l6-h384",
    StudentConfig(12, 768, 12, 64, 3072): "bert-base",
}
"""Teacher dimensions -> the shipped space that is made for them."""


def space_for(name: str | None, teacher: StudentConfig) -> SearchSpace:
    """The search space of a run, checked to fit its teacher.

    Args:
        name: a shipped space, a YAML file or `auto`; None for the one shipped for such a teacher, else `auto`.
        teacher: the teacher's dimensions.

    Raises:
        SpaceError: unknown, malformed, or larger than the teacher.
    """
    name = name or SPACE_OF_TEACHER.get(teacher, "auto")
    space = auto_space(teacher) if name == "auto" else load_space(name)
    check_fits(space, teacher)
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
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if self.config.device == "auto":
            return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
        if not available[self.config.device]:
            here = ", ".join(name for name, there in available.items() if there)
            raise ConfigError(f"device {self.config.device!r} is not available; available here: {here}")
        return torch.device(self.config.device)

    @cached_property
    def teacher(self) -> Teacher:
        """The frozen teacher, the same as when the run was begun."""
        teacher = load_teacher(self.config.teacher, str(self.device), self.config.trust_remote_code)
        self._check_unchanged("teacher_fingerprint", teacher.fingerprint, "teacher")
        layer, depth = self.config.teacher_layer, teacher.dims.num_layers
        if layer is not None and layer >= depth:
            raise ConfigError(f"teacher_layer = {layer} is not there; allowed: 0 to {depth - 1}")
        positions = teacher.model.config.max_position_embeddings
        if self.config.seq_len > positions:
            raise ConfigError(f"seq_len = {self.config.seq_len} is longer than the teacher's {positions} positions")
        return teacher

    @cached_property
    def space(self) -> SearchSpace:
        """The search space, the same as when the run was begun."""
        space = space_for(self.config.space, self.teacher.dims)
        if space.factorises_embeddings:
            check_factorisable(self.teacher.family, self.teacher.model.config)
        if space.prunes_vocabulary:
            space = fit_vocabulary(space, len(self._required_tokens()), self.teacher.model.config.vocab_size)
        self._check_unchanged("space", space_to_dict(space), "search space")
        return space

    @cached_property
    def objective(self) -> Objective:
        """The distillation objective with its relation heads."""
        return resolve_objective(
            self.config.objective,
            self.config.relation_heads,
            self.teacher.dims.attention_width,
            self.space.attention_widths,
        )

    @cached_property
    def corpus(self) -> TokenizedCorpus:
        """The tokenised text."""
        with self.progress.track("reading text", 0) as advance:
            corpus = tokenize_corpus(
                self.config.corpus,
                self.teacher.tokenizer,
                min_heldout_tokens=max(MIN_HELDOUT_TOKENS, self.config.heldout_sequences * self.config.seq_len),
                progress=lambda documents, tokens: advance(0, f"{tokens:,} tokens"),
            )
        self.progress.say(f"text: {corpus.description}")
        return corpus

    @cached_property
    def training_sequences(self) -> PackedSequences:
        """Packed sequences to train on.

        Raises:
            RunError: the text is not the one that this run's training was begun with.
        """
        self._check_unchanged("corpus_fingerprint", self.corpus.fingerprint, "text")
        return self._packed(self.corpus.train)

    def _packed(self, stream: TokenStream) -> PackedSequences:
        return PackedSequences(stream, self.config.seq_len, *special_affixes(self.teacher.tokenizer))

    def micro_batches(self, step: int) -> Iterator[Batch]:
        """The micro-batches of a training step: a function of the seed and the step alone."""
        sequences = self.training_sequences
        indices = batch_indices(len(sequences), self.config.batch_size, step, self.config.seed)
        for part in np.split(indices, self.config.accumulate):
            yield {"input_ids": torch.from_numpy(sequences.take(part)).to(self.device)}

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The teacher's tokens by their use in the training text; kept in the run folder, so that it never changes."""
        path = self.folder.path / "vocabulary.npz"
        if not path.is_file():
            rows = self.teacher.model.config.vocab_size
            counts = token_counts(self.corpus.train.tokens, rows)
            order_vocabulary(self.teacher.tokenizer, rows, self._required_tokens(), counts).save(path)
        return Vocabulary.load(path)

    def _required_tokens(self) -> list[int]:
        return required_ids(self.teacher.tokenizer, config_token_ids(self.teacher.model.config).values())

    def heldout_for(self, student: StudentConfig) -> HeldOut:
        """Held-out text as a student with such a vocabulary reads it."""
        size = student.vocab_size
        if size is None:
            return self.heldout
        if size not in self._retokenised:
            ids = self.heldout_ids
            spelled = spellings(self.teacher.tokenizer, self.vocabulary, size, np.unique(ids))
            built = HeldOut.build(self.teacher, ids, self.objective, 8, self.config.teacher_layer, spelled)
            self._retokenised[size] = built
        return self._retokenised[size]

    @cached_property
    def heldout(self) -> HeldOut:
        """Held-out sequences with the teacher's states."""
        return HeldOut.build(self.teacher, self.heldout_ids, self.objective, 8, self.config.teacher_layer)

    @cached_property
    def heldout_ids(self) -> np.ndarray:
        """Held-out sequences (sequences, seq_len); kept in the run folder, so that scores never change."""
        path = self.folder.path / "heldout.npy"
        if not path.is_file():
            sequences = self._packed(self.corpus.heldout)
            wanted = self.config.heldout_sequences
            if len(sequences) < wanted:
                raise CorpusError(
                    f"the text has {len(sequences)} held-out sequences of {self.config.seq_len} tokens, "
                    f"heldout_sequences = {wanted}; give more text, or lower heldout_sequences or --seq-len"
                )
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.save(file, sequences.take(batch_indices(len(sequences), wanted, 0, self.config.seed)))
        try:
            ids: np.ndarray = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise RunError(f"{str(path)!r} is damaged ({error}); remove it to draw held-out text again") from error
        return ids

    def new_superlm(self, sub_space: SubSpace, vocabulary: Vocabulary | None = None) -> SuperLM:
        """A SuperLM that starts from the teacher; training needs no vocabulary."""
        tokens = self._fitting_tokens() if sub_space.embedding_size and not self.is_trained(sub_space) else None
        return SuperLM.from_teacher(self.teacher, sub_space, self.config.layer_map, vocabulary, tokens)

    def _fitting_tokens(self) -> torch.Tensor:
        """Training sequences (64, seq_len) that factorised embeddings are fitted to."""
        sequences = self.training_sequences
        return torch.from_numpy(sequences.take(batch_indices(len(sequences), 64, 0, self.config.seed)))

    def trained_superlm(self, sub_space: SubSpace) -> SuperLM:
        """A SuperLM with its trained weights, read once."""
        if sub_space.name not in self._trained:
            superlm = self.new_superlm(sub_space, self.vocabulary if sub_space.vocab_size else None)
            load_weights(superlm, self.folder.superlm_folder(sub_space.name))
            self._trained[sub_space.name] = superlm
        return self._trained[sub_space.name]

    def is_trained(self, sub_space: SubSpace) -> bool:
        """Whether the sub-space's SuperLM has finished its training."""
        return (self.folder.superlm_folder(sub_space.name) / WEIGHTS).is_file()

    def teacher_costs(self) -> dict[str, Any]:
        """The teacher's own costs, under the names of the cost table."""
        table = cost_table([Candidate("teacher", self.teacher.dims)], self.teacher.encoder_shape, self.config.seq_len)
        return {key: table[key].iloc[0].item() for key in COST_COLUMNS}

    def vocabulary_facts(self, student: StudentConfig) -> dict[str, str]:
        """What to say about a pruned vocabulary; nothing of a whole one."""
        if student.vocab_size is None:
            return {}
        prefix, suffix = special_affixes(self.teacher.tokenizer)
        text = self.heldout_ids[:, len(prefix) : self.heldout_ids.shape[1] - len(suffix)]
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

    def record(self, **resolved: Any) -> None:
        """Write `run.yaml` with the configuration and what is known by now."""
        known = {
            **self.resolved(),
            "teacher_fingerprint": self.teacher.fingerprint,
            "space": space_to_dict(self.space),
            "relation_heads": self.objective.relation_heads,
            **resolved,
        }
        self.folder.write_record(self.config, known)

    def _check_unchanged(self, key: str, value: Any, what: str) -> None:
        stored = self.resolved().get(key)
        if stored is not None and stored != value:
            raise RunError(
                f"run folder {str(self.folder.path)!r} was made with another {what}; give another --run folder"
            )


def default_folder(config: RunConfig) -> Path:
    """`runs/<teacher>-<space>`."""
    hf_config = load_config(config.teacher, config.trust_remote_code)
    space = space_for(config.space, family_of(hf_config).dimensions(hf_config))
    teacher = Path(config.teacher).name or Path(config.teacher).resolve().name
    if not teacher:
        raise TeacherError(f"teacher {config.teacher!r} has no name to call a folder by; give --run a folder")
    return Path("runs") / f"{teacher}-{space.name}"
