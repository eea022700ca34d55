"""What a run starts from: teacher, search space, text, objective and orders, each made or read when first needed.

What decides the numbers of a run is compared with its record, and what would cost or change is kept in its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig

from autodistil.config import RunConfig
from autodistil.data.batch import Batch, lengths
from autodistil.data.image_batches import RunImages
from autodistil.data.sequences import Sentences
from autodistil.data.texts import SENTENCES_PER_SEQUENCE, RunSamples, RunText
from autodistil.data.tokens import decoded
from autodistil.errors import ConfigError, CorpusError, TeacherError
from autodistil.evaluation.embedding import check_reads
from autodistil.evaluation.heldout import HeldOut, text_fingerprint
from autodistil.formats.onnx_bits import ONNX_BITS
from autodistil.models.factorised import check_factorisable
from autodistil.models.families import family_of
from autodistil.models.families.vit import num_patches
from autodistil.models.hf_folder import EvaluatedModel, load_config, loading_errors
from autodistil.models.layer_maps import LAYER_MAPS, LayerMap, ending_in
from autodistil.models.model_folder import find_model
from autodistil.models.ordering import ORDERS, ImportanceOrder, apply_order, cut_after
from autodistil.models.retokenised import Reading, Spellings, read
from autodistil.models.teacher import Teacher, load_teacher
from autodistil.models.vocabulary import (
    Vocabulary,
    config_token_ids,
    order_vocabulary,
    required_ids,
    spellings,
    token_counts,
)
from autodistil.objectives import TERMS
from autodistil.objectives.next_token import NAME as NEXT_TOKEN
from autodistil.objectives.objective import AUTO, Objective, read_cuts, resolve_objective
from autodistil.run.folder import RunFolder
from autodistil.run.output_file import SUFFIX, OutputFile
from autodistil.run.output_images import ImageOutputTeacher
from autodistil.run.output_teacher import (
    HEAD_TEXTS,
    Outputs,
    OutputTeacher,
    OutputTeachers,
    Targets,
    fitted_head,
    load_head,
    read_output_teacher,
    save_head,
)
from autodistil.run.selected_text import selected_text
from autodistil.run.teacher_text import TeacherText
from autodistil.space.axes.bits import BITS
from autodistil.space.files import load_space, space_from_dict, space_to_dict
from autodistil.space.fit import DERIVED, auto_space, check_fits, fit_vocabulary
from autodistil.space.space import SearchSpace, StudentSet
from autodistil.space.student import StudentConfig
from autodistil.training.assistant import is_sub_space, load_assistant
from autodistil.utils import Progress, listed, resolve_device, shown

SPACE_OF_TEACHER = {
    StudentConfig(6, 384, 12, 32, 1536): "minilm-l6-h384",
    StudentConfig(12, 768, 12, 64, 3072): "bert-base",
    StudentConfig(6, 128, 8, 16, 512): "vit-l6-h128",
    StudentConfig(30, 576, 9, 64, 1536): "smollm2-135m",
}
"""Teacher dimensions -> the shipped space that is made for them."""

TRAINED_ON = "trained_on"
"""Key of what `run.yaml` says about the machines that trained each SuperLM and each refined student."""

OUTPUT_LENGTH = 512
"""Tokens, of its own, after which an output teacher cuts a text, less where it takes no more."""
SAMPLE_TEXTS, SAMPLE_BATCH, SAMPLE_LENGTH = 256, 64, 512
"""Training texts on which the teacher's dimensions are ranked, less for large decoders, how many at a time, and their
length in tokens: of texts that are longer, there are fewer of both."""


def space_for(
    name: str | None, config: PretrainedConfig, layer: int | None = None, per_layer: bool = False
) -> SearchSpace:
    """The search space of a run, checked to fit its teacher.

    Args:
        name: a shipped space, a YAML file or `auto`; None for the one shipped for such a teacher, else `auto`.
        config: the teacher's.
        layer: the teacher's layer to distil, which its students end in; None for the last.
        per_layer: derive a space whose students' layers have sizes of their own.

    Raises:
        SpaceError: unknown, malformed, larger than the teacher, deeper than `layer`, or not for its family.
        ConfigError: there is no such layer, or a space that is given is to be derived.
    """
    family = family_of(config)
    teacher = family.dimensions(config)
    if layer is not None:
        if layer >= teacher.num_layers:
            raise ConfigError(f"teacher_layer = {layer} is not there; allowed: 0 to {teacher.num_layers - 1}")
        teacher = replace(teacher, num_layers=layer + 1)
    if per_layer and name not in (None, "auto"):
        raise ConfigError(f"per_layer derives a space from the teacher, space = {name!r} is one; leave one of them out")
    made_for_it = name not in (None, "auto")
    name = name or ("auto" if per_layer else SPACE_OF_TEACHER.get(teacher, "auto"))
    queries = family.queries_per_kv(config)
    space = auto_space(teacher, queries_per_kv=queries, per_layer=per_layer) if name == "auto" else load_space(name)
    space = space if made_for_it else family.fit_space(space)
    deep = sorted({c.config.num_layers for c in space.candidates if c.config.num_layers > teacher.num_layers})
    if layer is not None and deep:
        allowed = f"at most {teacher.num_layers}, as students end in teacher_layer = {layer} (from 0)"
        raise space.refusal("num_layers", listed(deep), allowed, "lower it, or use the space 'auto'")
    check_fits(space, teacher)
    family.check_space(space, config)
    return space


def default_folder(config: RunConfig) -> Path:
    """`runs/<teacher>-<space>`."""
    hf_config = load_config(config.teacher, config.trust_remote_code)
    with loading_errors(f"config.json of teacher {config.teacher!r} cannot be used"):
        space = space_for(config.space, hf_config, config.teacher_layer, config.per_layer)
    hub_id = find_model(config.teacher, weights=False, code=config.trust_remote_code).hub_id
    if hub_id is None:
        teacher = Path(config.teacher).name or Path(config.teacher).resolve().name
    else:
        teacher = Path(hub_id).name + config.teacher.removeprefix(hub_id).replace("/", "-")  # with its revision
    if not teacher:
        raise TeacherError(f"teacher {config.teacher!r} has no name to call a folder by; give --run a folder")
    return Path("runs") / f"{teacher}-{space.name}"


@dataclass
class RunInputs:
    """What the configuration of a run stands for."""

    folder: RunFolder
    config: RunConfig
    progress: Progress = field(default_factory=Progress)
    _spellings: dict[int, Spellings] = field(default_factory=dict, init=False, repr=False)

    def write_record(self, **resolved: Any) -> None:
        """Write `run.yaml` with the configuration, what decides the numbers, and what else was resolved by now."""
        assistant = self.assistant_model
        models = {"teacher": self.teacher, "assistant": assistant}
        known = {
            "teacher_fingerprint": self.teacher.fingerprint,
            "space": space_to_dict(self.space),
            "objective": self.objective.name,
            "relation_heads": self.objective.options.relation_heads,
            **({"assistant_fingerprint": assistant.fingerprint} if assistant else {}),
            **({"output_teacher_fingerprint": self.output_teacher.fingerprint} if self.output_teacher else {}),
            **{f"{role}_commit": model.commit for role, model in models.items() if model and model.commit},
        }
        self.folder.write_record(self.config, {**known, **resolved})

    def write_trained_on(self, names: Sequence[str]) -> None:
        """Record what SuperLMs, or students alone, are trained on from here on: their last bits depend on it."""
        config, before = self.config, self.folder.resolved().get(TRAINED_ON, {})
        here = {"device": self.device.type, "threads": torch.get_num_threads(), "workers": config.workers}
        known = {name: [one for one in before.get(name, ()) if one != here] for name in names}
        trained_on = {**before, **{name: [*others, dict(here)] for name, others in known.items()}}
        self.folder.write_record(config, {TRAINED_ON: trained_on})

    @cached_property
    def device(self) -> torch.device:
        """The device to compute on.

        Raises:
            ConfigError: the accelerator is not there.
        """
        return resolve_device(self.config.device)

    # ---- teacher, assistant and space

    @cached_property
    def teacher(self) -> Teacher:
        """The frozen teacher, the same as when the run was begun."""
        commit = self.folder.resolved().get("teacher_commit")
        teacher = load_teacher(self.config.teacher, str(self.device), self.config.trust_remote_code, commit)
        self.folder.check_unchanged("teacher_fingerprint", teacher.fingerprint, "teacher")
        asked, positions = self.config.seq_len, teacher.max_length
        if teacher.images is None and asked > positions:
            raise ConfigError(f"seq_len = {asked} is longer than the teacher's {positions} positions")
        if teacher.images is not None and asked not in (RunConfig.seq_len, positions):
            raise ConfigError(
                f"seq_len = {asked} is for text, this teacher reads every image as {positions} tokens; leave it out"
            )
        return teacher

    @property
    def teacher_name(self) -> str:
        """The teacher as people call it: its name, its id on the Hub, or the last part of its path."""
        return str(shown(self.config.teacher))

    @property
    def samples(self) -> str:
        """What teacher and students read: `texts` or `images`."""
        return "texts" if self.teacher.images is None else "images"

    @property
    def seq_len(self) -> int:
        """Tokens of a training sequence, or of an image: the length at which costs are stated."""
        return self.config.seq_len if self.teacher.images is None else self.teacher.max_length

    @cached_property
    def space(self) -> SearchSpace:
        """The search space, the same as when the run was begun, even if another release derived it otherwise."""
        hf_config, config = self.teacher.model.config, self.config
        begun = self.folder.resolved().get("space")
        if begun is not None and begun["name"] in DERIVED and config.space in (None, "auto"):
            return space_from_dict(begun, "run.yaml")
        space = space_for(config.space, hf_config, config.teacher_layer, config.per_layer)
        if space.has_axis_of("embedding_size"):
            check_factorisable(self.teacher.family, self.teacher.model.config)
        if any(map(space.has_axis_of, BITS)):
            ONNX_BITS.check_writing()
        if space.has_axis_of("vocab_size"):
            space = fit_vocabulary(space, len(self._required_tokens()), self.teacher.model.config.vocab_size)
        self.folder.check_unchanged("space", space_to_dict(space), "search space")
        return space

    @cached_property
    def assistant_model(self) -> Teacher | None:
        """The assistant where it is a model of its own, the same as when the run was begun; None where there is none.

        Raises:
            ConfigError: there is no such model, or it reads text otherwise than the teacher does.
        """
        name = self.config.assistant
        if name is None or is_sub_space(name, self.space):
            return None
        commit = self.folder.resolved().get("assistant_commit")
        assistant = load_assistant(name, self.teacher, self.seq_len, self.config.trust_remote_code, commit)
        self.folder.check_unchanged("assistant_fingerprint", assistant.fingerprint, "assistant")
        return assistant

    # ---- output teacher

    @property
    def _output_files(self) -> list[OutputFile]:
        """Output teachers that are files of embeddings."""
        teachers = self.output_teacher.teachers if self.output_teacher else ()
        return [teacher for teacher in teachers if isinstance(teacher, OutputFile)]

    @cached_property
    def output_teacher(self) -> OutputTeachers | None:
        """The output teachers, the same as when the run was begun; None where there are none.

        Raises:
            ConfigError: the teacher is a decoder, or reads what an output teacher does not; a weight is none; or a file
                is no good.
            TeacherError: one cannot be loaded.
        """
        if not self.config.output_teacher:
            return None
        teacher = self.teacher
        parts = [read_output_teacher(text) for text in self.config.output_teacher]
        if teacher.family.causal:
            name = parts[0][1]
            raise ConfigError(f"output_teacher = {name!r} is for encoders, the teacher is a decoder; leave it out")
        found = OutputTeachers([self._outputs(name, weight) for weight, name in parts])
        if self.config.output_role != "document" and not any(isinstance(one, OutputTeacher) for one in found.teachers):
            what = "encoders of text" if self.teacher.images else "encoders, not of files"
            raise ConfigError(f"output_role = {self.config.output_role!r} is of {what}; leave it out")
        self.folder.check_unchanged("output_teacher_fingerprint", found.fingerprint, "output teacher")
        return found

    def _outputs(self, name: str, weight: float) -> Outputs:
        config, images = self.config, self.teacher.images is not None
        if name.endswith(SUFFIX):
            if images:
                raise ConfigError(f"output_teacher = {name!r} is of texts, the teacher reads images; give a model")
            return OutputFile(Path(name).expanduser(), self.teacher.tokenizer, config.seq_len, weight)
        model = EvaluatedModel.open(name)
        check_reads("the teacher", images, f"output_teacher {name!r}", model.reads_images)
        if images:
            return ImageOutputTeacher(model, self.device, config.precision, weight)
        how = (self.device, OUTPUT_LENGTH, config.precision)
        return OutputTeacher(model, self.teacher.tokenizer, *how, weight, config.output_role)

    def _embedded(self, texts: Sentences) -> np.ndarray:
        """Numbers of the texts that all files of embeddings have one of.

        Raises:
            CorpusError: there are none.
        """
        known = np.flatnonzero(np.all([file.knows(texts) for file in self._output_files], axis=0))
        names = " and ".join(file.path.name for file in self._output_files)
        of = f"{len(texts):,} {self.text.unit} ({texts.stream.path.stem} text)"
        if not len(known):
            raise CorpusError(
                f"of the corpus's {of} none has an embedding in {names}; give the texts there to --corpus too, as "
                ".jsonl, or as .txt with an empty line between two"
            )
        self.progress.say(f"embeddings in {names} of {len(known):,} of {of}; others are left out")
        return known

    @cached_property
    def _output_targets(self) -> list[Targets]:
        text = self.text
        decided = [text.corpus.content_hash, text.unit, str(self.seq_len), str(len(text.train))]
        decided += [text.choice] if isinstance(text, RunText) and text.choice else []
        teachers = self.output_teacher.teachers if self.output_teacher else ()
        return [teacher.targets(text.train.take, len(text.train), decided) for teacher in teachers]

    def output_targets(self, numbers: np.ndarray) -> Tensor:
        """Their joined embeddings of training samples by number, (samples, dim)."""
        assert self.output_teacher is not None
        return self.output_teacher.joined([targets(numbers) for targets in self._output_targets])

    @cached_property
    def output_head(self) -> Tensor | None:
        """What SuperLMs start from as the map into its space, (dim, hidden)."""
        path, targets = self.folder.output_head_path, self.output_targets
        if self.output_teacher is None:
            return None
        if not path.is_file():
            numbers = self.training_text.sample_numbers(HEAD_TEXTS)
            parts = np.split(numbers, range(self._sample_batch, len(numbers), self._sample_batch))
            with self.progress.track("fitting the head of outputs", 0):
                batches = [self.teacher.inputs.batch(self.text.train.take(part), self.device) for part in parts]
                save_head(fitted_head(self.ordered_teacher, batches, [targets(part) for part in parts]), path)
        return load_head(path)

    # ---- objective and measure

    @cached_property
    def objective(self) -> Objective:
        """The distillation objective with its relation heads."""
        assistant = self.assistant_model
        objective = resolve_objective(
            self.config.objective,
            self.config.relation_heads,
            self.teacher.kv_width(self.teacher.dims),
            [*self.relation_widths, *([assistant.kv_width(assistant.dims)] if assistant else [])],
            self.teacher.pooling,
            self.teacher.family.causal,
            bool(self.config.output_teacher),
            () if self.config.matryoshka is None else read_cuts(self.config.matryoshka),
            self.config.exits,
        )
        if self.teacher.family.norms_first and (asking := [n for _, n in objective.terms if TERMS[n].exits]):
            kind = self.teacher.model.config.model_type
            raise ConfigError(
                f"objective {asking[0]!r} needs layers that end in a norm, as in BERT; those of {kind} teachers begin "
                "with it; leave it out"
            )
        if self.config.on_policy and any(name == NEXT_TOKEN for _, name in objective.terms):
            raise ConfigError(
                f"on_policy: objective {NEXT_TOKEN!r} would have students imitate text that they write; leave one out"
            )
        if self.config.objective == AUTO:  # others are an option of the run, and may differ in trials of a tuning
            what = "objective: its teacher pools otherwise, or the default is another now"
            self.folder.check_unchanged("objective", objective.name, what)
        return objective

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

    # ---- orders of the teacher's dimensions, layers and tokens

    @cached_property
    def importance_order(self) -> ImportanceOrder:
        """The teacher's dimensions and layers by importance; kept in the run folder, so that slices never change."""
        path = self.folder.importance_path
        self._begin(path)
        if not path.is_file():
            rank = ORDERS["both" if self.config.order == "none" else self.config.order]
            layer, depth = self.config.teacher_layer, self.teacher.dims.num_layers
            with self.progress.track("ranking the teacher's dimensions", 0):
                ranked = self.teacher if layer is None else cut_after(self.teacher, layer)
                count = SAMPLE_TEXTS // SENTENCES_PER_SEQUENCE if self.teacher.family.causal else SAMPLE_TEXTS
                batches = self.sample_batches(max(1, count // self._times_longer))
                rank(ranked, batches).order().extended(depth).save(path)
        return ImportanceOrder.load(path)

    @property
    def _times_longer(self) -> int:
        """How many texts of `SAMPLE_LENGTH` one of the run is as long as, at least one."""
        return max(1, self.seq_len // SAMPLE_LENGTH)

    @property
    def _sample_batch(self) -> int:
        return max(1, SAMPLE_BATCH // self._times_longer)

    def sample_batches(self, count: int) -> list[Batch]:
        """So many training texts, in batches by length, so that little is padding."""
        texts = self.training_text.sample(count)
        texts = texts[np.argsort(lengths(texts), kind="stable")]
        parts = np.split(texts, range(self._sample_batch, len(texts), self._sample_batch))
        return [self.teacher.inputs.batch(part, self.device) for part in parts]

    @cached_property
    def ordered_teacher(self) -> Teacher:
        """The teacher in importance order: what SuperLMs start from and are distilled from."""
        return self.teacher if self.config.order == "none" else apply_order(self.teacher, self.importance_order)

    @cached_property
    def layer_map(self) -> LayerMap:
        """Which teacher layers shallower students start from."""
        name, layer = self.config.layer_map, self.config.teacher_layer
        layer_map = self.importance_order.influential_layers if name == "influence" else LAYER_MAPS[name]
        return layer_map if layer is None else ending_in(layer_map, layer)

    def vocabulary_of(self, students: StudentSet) -> Vocabulary | None:
        """The vocabulary that a SuperLM needs where its students' sizes differ in it; None where they do not."""
        return self.vocabulary if students.has_axis_of("vocab_size") else None

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The teacher's tokens by their use in the training text; kept in the run folder, so that it never changes."""
        path = self.folder.vocabulary_path
        if not path.is_file():
            rows = self.teacher.model.config.vocab_size
            counts = token_counts(self.training_tokens.corpus.train.tokens, rows)
            order_vocabulary(self.teacher.tokenizer, rows, self._required_tokens(), counts).save(path)
        return Vocabulary.load(path)

    def spellings(self, size: int) -> Spellings:
        """What stands for each token of the teacher that a vocabulary of this size drops; made once."""
        if size not in self._spellings:
            tokenizer = self.teacher.tokenizer
            known = sorted(set(tokenizer.get_vocab().values()))
            self._spellings[size] = spellings(tokenizer, self.vocabulary, size, known)
        return self._spellings[size]

    def read(self, batch: Batch, size: int) -> Reading | None:
        """A batch as students with a vocabulary of this size read it; None where that is longer than a model takes."""
        reading = read(batch, self.spellings(size), self.teacher.padding_id)
        return reading if reading.means.shape[-1] <= self.teacher.max_length else None

    def _required_tokens(self) -> list[int]:
        return required_ids(self.teacher.tokenizer, config_token_ids(self.teacher.model.config).values())

    # ---- text

    @cached_property
    def text(self) -> RunSamples:
        """The run's text, or images."""
        config, teacher = self.config, self.teacher
        shared = (config, teacher.inputs, self.device, self.progress)
        targets = self.output_targets if config.output_teacher else None
        embeds = teacher.pooling is not None or bool(config.output_teacher)
        files = self._output_files
        unit = config.text_unit
        if unit == "auto":
            unit = "documents" if files else "sentences" if embeds else "sequences"
        sentences = unit != "sequences"
        if files and not sentences:
            raise ConfigError(f"text_unit = {unit!r} cuts texts that {files[0].path.name!r} has whole; leave it out")
        if (config.teacher_text or config.on_policy) and (sentences or not teacher.family.causal):
            other = "the teacher is none" if not teacher.family.causal else f"text_unit = {unit!r}"
            raise ConfigError(f"teacher_text and on_policy are of decoders, on sequences; {other}; leave them out")
        if config.select is not None and not (sentences and teacher.images is None):
            other = "set text_unit = sentences, or " * (teacher.images is None)
            raise ConfigError(f"select = {config.select!r} is of sentences; {other}leave it out")
        if teacher.images is not None:
            special = teacher.max_length - num_patches(teacher.model.config)
            return RunImages(*shared, teacher.images, teacher.max_length, special, targets_of=targets)
        if config.visible_patches != 1 or config.masking != "random":
            raise ConfigError("visible_patches and masking are of images, the teacher reads text; leave them out")
        choose, known = self._chosen if config.select is not None else None, self._embedded if files else None
        text = RunText(*shared, teacher.tokenizer, sentences, choose, unit == "documents", known, targets_of=targets)
        if config.teacher_text:
            kept = self.folder.teacher_text_path
            text.rewrite = TeacherText(config, teacher, text.corpus_samples, kept, self.progress)
        return text

    def _chosen(self, among: Sentences) -> np.ndarray:
        self._begin(self.folder.selection_path)
        return selected_text(among, self.config, self.teacher, self.folder.selection_path, self.progress)

    def _begin(self, path: Path) -> None:
        """Record the text before a file of it is left at `path`: a folder that holds one is a run's."""
        if not path.is_file() and path.parent == self.folder.path:  # not where a run is only looked at
            content = self.text.corpus.content_hash
            self.folder.check_unchanged("corpus_content", content, "text")
            self.write_record(corpus_content=content)

    @cached_property
    def training_text(self) -> RunSamples:
        """The text to train on.

        Raises:
            RunError: it is not the one that this run's training was begun with.
        """
        self.folder.check_unchanged("corpus_content", self.text.corpus.content_hash, "text")
        return self.text

    @property
    def training_tokens(self) -> RunText:
        """The text of a teacher that reads text."""
        text = self.training_text
        assert isinstance(text, RunText)
        return text

    @cached_property
    def heldout_texts(self) -> np.ndarray:
        """Held-out texts (texts, tokens)."""
        self._begin(self.folder.heldout_path)
        return self.text.draw_heldout(self.folder.heldout_path)

    def decoded(self, texts: np.ndarray) -> list[str]:
        """Texts (texts, tokens) as people read them."""
        return decoded(self.teacher.tokenizer, texts)

    @property
    def scored_by(self) -> dict[str, str]:
        """What decides the held-out loss of given weights, by names for people; all equal, and losses compare."""
        measure = self.measure
        heads = f" of {measure.options.relation_heads} aligned relation heads" if measure.needs_attention else ""
        cut = f" at {listed(measure.options.cuts)} dimensions" if measure.options.cuts else ""
        layer = self.config.teacher_layer
        order = "none" if self.config.order == "none" else self.importance_order.fingerprint
        return {
            "teacher": self.teacher.fingerprint,
            **({"output teacher": self.output_teacher.fingerprint} if self.output_teacher else {}),
            "teacher layer": "last" if layer is None else str(layer),
            "importance order": "any" if self.ranks_by_perplexity else order,
            "measure": measure.name + heads + cut,
            "length": str(self.seq_len),
            "held-out text": text_fingerprint(self.heldout_texts),
        }

    def read_heldout(self, vocab_size: int | None = None) -> HeldOut:
        """Held-out text as students with such a vocabulary read it, with the teacher's states."""
        spelled, layer = None if vocab_size is None else self.spellings(vocab_size), self.config.teacher_layer
        outputs = self.outputs_of(self.heldout_texts)
        return HeldOut.build(self.ordered_teacher, self.heldout_texts, self.measure, layer, spelled, outputs)

    def outputs_of(self, texts: np.ndarray) -> tuple[Tensor, Tensor] | None:
        """Embeddings of texts by the output teacher, and the map of the teacher into its space."""
        head = self.output_head
        if self.output_teacher is None or head is None:
            return None
        return self.output_teacher.embed(texts).to(self.device), head.to(self.device)

    def read_embedded(self, vocab_size: int | None, most: int) -> HeldOut:
        """The first held-out texts with the teacher's embeddings, or the output teacher's, whatever the measure."""
        spelled = None if vocab_size is None else self.spellings(vocab_size)
        with_output, texts = replace(self.measure, terms=((1.0, "last-hidden"),)), self.heldout_texts[:most]
        outputs = self.outputs_of(texts)
        return HeldOut.build(self.ordered_teacher, texts, with_output, spellings=spelled, outputs=outputs)
