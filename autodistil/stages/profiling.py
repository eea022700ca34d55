"""Which students of a run to measure, and the students of folders, as what `profiling` measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoModel, PreTrainedModel

from autodistil.errors import ProfileError
from autodistil.models.hf_folder import load_config, load_weights
from autodistil.models.teacher import Teacher, load_teacher
from autodistil.profiling.latency_model import choose_students, design_size
from autodistil.profiling.profile import StudentSource, table_header
from autodistil.run.inputs import RunInputs
from autodistil.run.run import Run
from autodistil.run.superlms import SuperLMs
from autodistil.space.student import Candidate, StudentConfig
from autodistil.student_search.candidates import CandidateTable


def run_sources(run: Run, count: int) -> tuple[list[StudentSource], dict[str, Any]]:
    """Students of a run to measure, and the header of their table.

    Args:
        run: an open one; SuperLMs that were not trained are cut from the teacher as they start.
        count: students at most.
    """
    teacher = run.inputs.teacher
    searched = run.folder.candidates_path
    front = CandidateTable.read(searched).front.cheapest_first.ids if searched.is_file() else []
    chosen = choose(run.inputs.space.candidates, front, count)
    sources = [_candidate_source(run.inputs, run.superlms, one) for one in chosen]
    return sources, table_header(teacher.model.config.model_type, teacher.encoder_shape.vocab_size)


def choose(candidates: Sequence[Candidate], front: Iterable[str], count: int) -> list[Candidate]:
    """Students that tell most about all others, by design, then the front: `count` architectures at most.

    Args:
        candidates: all students of a space.
        front: ids of the front, cheapest first; spread evenly where there are too many.
        count: at least one.
    """
    distinct: dict[StudentConfig, Candidate] = {}
    for candidate in candidates:
        distinct.setdefault(candidate.config, candidate)
    by_id = {candidate.id: candidate for candidate in candidates}
    design = choose_students(list(distinct), min(count, design_size(len(distinct))))
    chosen = {student: distinct[student] for student in design}
    for candidate in (by_id[student_id] for student_id in front if student_id in by_id):
        chosen.setdefault(candidate.config, candidate)
    first, rest = list(chosen.values())[: len(design)], list(chosen.values())[len(design) :]
    room = min(count - len(first), len(rest))
    return [*first, *(rest[i * len(rest) // room] for i in range(room))]


def _candidate_source(inputs: RunInputs, superlms: SuperLMs, candidate: Candidate) -> StudentSource:
    def load() -> PreTrainedModel:
        sub_space = inputs.space.sub_space(candidate.sub_space)
        trained = superlms.is_trained(sub_space)
        superlm = superlms.of(candidate) if trained else superlms.new(sub_space, inputs.vocabulary_of(sub_space))
        model = superlm.extract(candidate.config)
        model.set_attn_implementation("sdpa")  # not the tapped one of the teacher's config
        return model

    teacher = inputs.teacher
    return StudentSource(candidate.id, candidate.config, teacher.max_length, load, teacher.images is not None)


def folder_sources(folders: Sequence[Path]) -> tuple[list[StudentSource], dict[str, Any]]:
    """Hugging Face encoders to measure, and the header of their table.

    Raises:
        TeacherError: one cannot be loaded, or its family is not supported.
        ProfileError: they are of several families, or two of one architecture.
    """
    loaded = [load_teacher(str(folder)) for folder in folders]
    families = sorted({one.model.config.model_type for one in loaded})
    if len(families) > 1:
        raise ProfileError(f"profile: got students of the families {', '.join(families)}; measure each on its own")
    vocab_size = max(one.encoder_shape.vocab_size for one in loaded)
    sources = [_folder_source(folder, one, vocab_size) for folder, one in zip(folders, loaded, strict=True)]
    if len({source.config for source in sources}) < len(sources):
        raise ProfileError("profile: got one architecture twice; leave one of the folders out")
    return sources, table_header(families[0], vocab_size)


def _folder_source(folder: Path, student: Teacher, whole: int) -> StudentSource:
    own, path = student.encoder_shape.vocab_size, student.folder or folder
    narrow = student.encoder_shape.embedding_size
    config = replace(student.dims, vocab_size=None if own == whole else own, embedding_size=narrow)

    def load() -> PreTrainedModel:
        model, _ = load_weights(AutoModel, path, load_config(str(path)), f"student {str(folder)!r}")
        model.set_attn_implementation("sdpa")
        return model.eval()

    return StudentSource(folder.name, config, student.max_length, load, student.images is not None)
