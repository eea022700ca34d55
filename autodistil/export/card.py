"""The model card of an exported student: what it is, what it costs, where it comes from. Its words are in `card.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CardData, RepoCard, metadata_load

from autodistil.costs.speed import Speed
from autodistil.models.packaged import HUB_IDS
from autodistil.models.teacher import Teacher
from autodistil.space.axes import axis_of
from autodistil.space.axes.axis import Axis
from autodistil.space.shape import EncoderShape
from autodistil.space.student import SIZES, Candidate, StudentConfig
from autodistil.utils import shown


@dataclass(frozen=True)
class Repeat:
    """What makes a student again."""

    student: str
    options: Mapping[str, Any]
    """Options of the run that are not the defaults."""
    refined: Mapping[str, Any] | None = None
    """`steps` and `learning_rate` of its refinement, where it has these weights."""
    same_bits: bool = True
    """It was trained by one number of threads of a CPU, which is among the options."""

    @property
    def run_yaml(self) -> str:
        """The options as a file to search by, without the paths of this machine."""
        return yaml.safe_dump(self._shown, sort_keys=False, allow_unicode=True).strip()

    @property
    def places_left_out(self) -> bool:
        """Whether options name files of this machine, of which the card tells the last part only."""
        return self._shown != {name: list(v) if isinstance(v, tuple) else v for name, v in self.options.items()}

    @property
    def _shown(self) -> dict[str, Any]:
        return {name: shown(value) for name, value in self.options.items()}


def model_card(
    candidate: Candidate,
    teacher: Teacher,
    costs: Mapping[str, Any],
    facts: Mapping[str, str],
    sentence_transformers: bool,
    speed: Speed | None = None,
    repeat: Repeat | None = None,
    folder: str = "my-student",
) -> str:
    """The `README.md` of a student, with the front matter that the Hugging Face Hub reads.

    Args:
        candidate: the student.
        teacher: what it was distilled from.
        costs: its row of the cost table, `seq_len`, and the `teacher`'s costs.
        facts: what it was distilled on, its loss, how far to trust it.
        sentence_transformers: the folder is a sentence-transformers one.
        speed: of a forward, where it was measured.
        repeat: what makes the student again.
        folder: the student's own, as the lines that load it name it.
    """
    shape, both = teacher.encoder_shape, (candidate.config, teacher.dims)
    axes = [axis_of(size) for size in SIZES if getattr(candidate.config, size) is not None]
    card = RepoCard.from_template(
        CardData(**_front_matter(candidate, teacher, sentence_transformers)),
        template_path=str(Path(__file__).with_name("card.md")),
        id=candidate.id,
        student=candidate.config,
        own_class=teacher.family.needs_own_class(candidate.config),
        teacher=teacher,
        source=shown(teacher.source),
        sizes=[(axis.words, *(_size_text(axis, one, shape) for one in both)) for axis in axes],
        costs=costs,
        facts=facts,
        sentence_transformers=sentence_transformers,
        speed=speed,
        repeat=repeat,
        path=json.dumps(folder, ensure_ascii=False),
    )
    return f"{card}\n"


def _size_text(axis: Axis, student: StudentConfig, shape: EncoderShape) -> str:
    """A size of a student; of each layer of the teacher where they have sizes of their own."""
    if student.layers and axis.by_layer:
        return ", ".join(f"{getattr(layer, axis.size):,}" for layer in student.layers)
    return format(axis.of(student, shape), axis.format)


def _front_matter(candidate: Candidate, teacher: Teacher, sentence_transformers: bool) -> dict[str, Any]:
    inherited = _teacher_front_matter(teacher.folder)
    carried = ("language", "license", "license_name", "license_link")
    matter: dict[str, Any] = {key: inherited[key] for key in carried if key in inherited}
    if (base := teacher.hub_id or HUB_IDS.get(teacher.source)) is not None:
        matter["base_model"] = base
    matter["library_name"] = "sentence-transformers" if sentence_transformers else "transformers"
    if sentence_transformers:
        matter["pipeline_tag"] = "sentence-similarity"
    if teacher.family.causal:
        matter["pipeline_tag"] = "text-generation"
    if teacher.images is not None:
        matter["pipeline_tag"] = "image-feature-extraction"
    model_type = "electra" if candidate.config.embedding_size is not None else teacher.model.config.model_type
    matter["tags"] = ["autodistil", "knowledge-distillation", model_type]
    return matter


def _teacher_front_matter(folder: Path | None) -> dict[str, Any]:
    """The front matter of the teacher's own card, where it is at hand and whole."""
    card = folder / "README.md" if folder else None
    try:
        return (metadata_load(card) or {}) if card and card.is_file() else {}
    except (ValueError, RecursionError, yaml.YAMLError):
        return {}
