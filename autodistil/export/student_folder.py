"""Export: a student as an ordinary Hugging Face folder, checked against the SuperLM before it is called done."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from autodistil.costs.fvcore_check import count_flops
from autodistil.data.batch import Batch, real_tokens
from autodistil.errors import ExportError, IntegrityError
from autodistil.export.card import Repeat, model_card
from autodistil.formats.writing import Deployable, check_formats, write_formats
from autodistil.models.pooling import PLAIN_MODULES, module_kinds
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.models.vocabulary import prune_tokenizer
from autodistil.profiling.forward_time import forward_times
from autodistil.space.student import Candidate, StudentConfig
from autodistil.utils import disk_errors

PARITY_TOLERANCE = 1e-5
"""Largest allowed difference of last hidden states between the SuperLM's student and the reloaded export; of a decoder,
of logits, as a share of the largest."""


@dataclass(frozen=True)
class ExportedStudent:
    """What an export left behind."""

    path: Path
    max_difference: float
    """Of last hidden states, reloaded model against SuperLM, on random tokens at several lengths, or pixels."""
    size_mb: float
    """Of `model.safetensors`, in 1e6 bytes."""
    sentence_transformers: bool
    """`SentenceTransformer(path)` loads it."""
    own_architecture: bool = False
    """It loads with `trust_remote_code=True` only, where autodistil is not installed."""
    more: tuple[Deployable, ...] = ()
    """Its further formats."""
    decoder: bool = False
    """It generates text: `AutoModelForCausalLM` loads it."""


def export_student(
    superlm: SuperLM,
    candidate: Candidate,
    teacher: Teacher,
    costs: Mapping[str, Any],
    facts: Mapping[str, str],
    to: Path,
    replace_existing: bool = False,
    formats: Sequence[str] = (),
    repeat: Repeat | None = None,
) -> ExportedStudent:
    """Write a student to `to`: whole and checked, or not at all.

    Args:
        superlm: the trained SuperLM of the candidate's sub-space.
        candidate: the student.
        teacher: gives the tokenizer or image processor and, where it is one, the sentence-transformers pipeline.
        costs: its row of the cost table (`flops`, `params`, `size_mb`, ...), recounted here.
        facts: further lines of the model card (what it was distilled on, loss, ...).
        to: a folder that does not exist yet, or is empty.
        replace_existing: put the student in the place of an earlier export at `to`.
        formats: keys of `deployable.FORMATS`, written beside.
        repeat: what makes the student again, for the model card.

    Raises:
        ExportError: the target is taken, a format unknown, or none that this teacher's students have.
        ConfigError: a further format is asked for of a student that reads images.
        ProfileError: a library of a format is not installed.
        RunError: the disk refuses.
        IntegrityError: the reloaded model differs from the SuperLM's student, or its costs from the closed form.
    """
    if to.exists() and not replace_existing and (not to.is_dir() or any(to.iterdir())):
        raise ExportError(f"export target {str(to)!r} exists and is not an empty folder; give --to a new folder")
    teacher.check_reads_text(*(f"format {name!r}" for name in formats if name != "hf"))
    _check_formats(formats, teacher)
    building = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}.tmp")
    with disk_errors(to):
        try:
            building.mkdir(parents=True)
            superlm.extract(candidate.config).save_pretrained(building)
            tokenizer = student_tokenizer(superlm, candidate, teacher)
            reader: Any = teacher.images.processor if teacher.images else tokenizer
            reader.save_pretrained(building)
            pipeline = _write_sentence_pipeline(teacher, candidate.config.hidden_size, building)
            kind: Any = AutoModelForCausalLM if teacher.family.causal else AutoModel
            reloaded = kind.from_pretrained(building).to(superlm.device).eval()
            difference = check_parity(superlm, candidate, reloaded)
            check_costs(superlm, candidate, costs, reloaded, building)
            (building / "model.safetensors").chmod(0o644)  # safetensors creates it for its owner only
            times = forward_times(reloaded.base_model, teacher.model, costs["seq_len"])
            more = write_formats(reloaded.to("cpu"), tokenizer, formats, building)
            files = {f"also as {one.format}": one.line for one in more}
            card = model_card(candidate, teacher, costs, {**facts, **files}, pipeline, times, repeat)
            (building / "README.md").write_text(card, encoding="utf-8")
            _copy_licences(teacher.folder, building)
            if to.exists():
                shutil.rmtree(to)
            os.replace(building, to)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    size = (to / "model.safetensors").stat().st_size / 1e6
    own = candidate.config.free_attention and teacher.family.wide_config is not None
    return ExportedStudent(to, difference, size, pipeline, own, tuple(more), teacher.family.causal)


def _check_formats(formats: Sequence[str], teacher: Teacher) -> None:
    """Refuse formats that the students of a teacher do not have."""
    others = [name for name in check_formats(formats) if name != "hf"]
    if others and teacher.family.causal:
        raise ExportError(
            f"format {others[0]!r} holds hidden states, which is not for decoders; allowed: hf, which other tools "
            "convert (such as llama.cpp's convert_hf_to_gguf.py)"
        )
    if "sentence-transformers" in formats and not _is_plain_pipeline(teacher.folder):
        raise ExportError(
            f"teacher {teacher.source!r} has no sentence-transformers pipeline of an encoder, a pooling and a scaling, "
            "so its students have none; allowed: hf, onnx, onnx-int8, openvino"
        )


def student_tokenizer(superlm: SuperLM, candidate: Candidate, teacher: Teacher) -> PreTrainedTokenizerBase:
    """The tokenizer of a student: the teacher's, pruned where the student's vocabulary is."""
    size = candidate.config.vocab_size
    if size is None:
        return teacher.tokenizer
    assert superlm.vocabulary is not None
    return prune_tokenizer(teacher.tokenizer, superlm.vocabulary, size)


@torch.no_grad()
def check_parity(superlm: SuperLM, candidate: Candidate, reloaded: PreTrainedModel) -> float:
    """Compare a reloaded export with the SuperLM's student.

    Returns:
        The largest absolute difference of last hidden states, or of the logits of a decoder.

    Raises:
        IntegrityError: it is above `PARITY_TOLERANCE`.
    """
    worst, largest = 0.0, 1.0
    for batch, inputs in _PARITY_INPUTS[superlm.family.modality](superlm, candidate.config, reloaded.config):
        states = superlm.forward(candidate.config, batch, output=True)
        assert states.output is not None
        ours = states.output if states.head is None else states.output @ states.head.T
        answer, real = reloaded(**inputs), real_tokens(batch)
        differences = ((answer.last_hidden_state if states.head is None else answer.logits) - ours).abs()
        worst = max(worst, float((differences if real is None else differences[real]).max()))
        largest = max(largest, float(ours.abs().max())) if states.head is not None else 1.0
    if not worst <= PARITY_TOLERANCE * largest:
        raise IntegrityError(
            f"export of {candidate.id} differs from the SuperLM's student by {worst:.2e} "
            f"(allowed {PARITY_TOLERANCE * largest:.0e}); please report this"
        )
    return worst


def _random_texts(superlm: SuperLM, student: StudentConfig, config: PretrainedConfig) -> Iterator[tuple[Batch, Batch]]:
    """Texts at several lengths with padding, in the teacher's numbering of tokens and in the student's."""
    generator = torch.Generator().manual_seed(0)
    kept = superlm.kept_tokens(student)
    for length in (7, 64):
        ids = torch.randint(10, config.vocab_size, (2, length), generator=generator)
        mask = torch.ones_like(ids).to(superlm.device)
        mask[1, length // 2 :] = 0
        batch = {"input_ids": (ids if kept is None else kept[ids]).to(superlm.device), "attention_mask": mask}
        yield batch, {**batch, "input_ids": ids.to(superlm.device)}


def _random_images(superlm: SuperLM, student: StudentConfig, config: PretrainedConfig) -> Iterator[tuple[Batch, Batch]]:
    """Two images of noise, the same for both."""
    shape = (2, config.num_channels, config.image_size, config.image_size)
    batch = {"pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(superlm.device)}
    yield batch, batch


_PARITY_INPUTS = MappingProxyType({"text": _random_texts, "image": _random_images})
"""What models read -> inputs of a SuperLM's student and of its export."""


def check_costs(
    superlm: SuperLM, candidate: Candidate, costs: Mapping[str, Any], reloaded: PreTrainedModel, folder: Path
) -> None:
    """Compare the parameters and the size of a reloaded export with the closed forms.

    Raises:
        IntegrityError: they differ.
    """
    parameters = sum(
        p.numel() for name, p in reloaded.named_parameters() if superlm.pooler or not name.startswith("pooler.")
    )
    if parameters != costs["params"]:
        raise IntegrityError(f"{candidate.id} has {parameters} parameters, the closed form says {costs['params']}")
    size = (folder / "model.safetensors").stat().st_size / 1e6
    if size > costs["size_mb"]:
        raise IntegrityError(f"{candidate.id} takes {size} MB, more than the bound {costs['size_mb']} MB")


def check_flops(superlm: SuperLM, candidate: Candidate, flops: int, seq_len: int) -> None:
    """Count a student's FLOPs again with fvcore.

    Raises:
        IntegrityError: fvcore and the closed form disagree.
    """
    counted = count_flops(superlm.meta_model(candidate.config), seq_len)
    if counted != flops:
        raise IntegrityError(
            f"{candidate.id}: fvcore counts {counted} multiply-adds at length {seq_len}, the closed form {flops}; "
            "please report this"
        )


def _is_plain_pipeline(folder: Path | None) -> bool:
    kinds = module_kinds(folder)
    return bool(kinds) and PLAIN_MODULES.issuperset(kinds)


def _copy_licences(teacher: Path | None, folder: Path) -> None:
    """The licence files of a teacher's folder go with its students."""
    for path in sorted(teacher.iterdir()) if teacher else ():
        if path.is_file() and path.stem.upper() in ("LICENSE", "LICENCE", "NOTICE"):
            shutil.copyfile(path, folder / path.name)


def _write_sentence_pipeline(teacher: Teacher, embedding_size: int, folder: Path) -> bool:
    """Carry a sentence-transformers pipeline over to a student; False where the teacher has none that fits."""
    if not _is_plain_pipeline(teacher.folder):
        return False
    assert teacher.folder is not None
    kinds = module_kinds(teacher.folder)
    modules = json.loads((teacher.folder / "modules.json").read_text(encoding="utf-8"))
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        if (teacher.folder / name).is_file():
            shutil.copyfile(teacher.folder / name, folder / name)
    for module, kind in zip(modules, kinds, strict=True):
        inner = folder / module["path"]
        inner.mkdir(exist_ok=True)
        if kind == "Pooling":
            options = json.loads((teacher.folder / module["path"] / "config.json").read_text(encoding="utf-8"))
            size_key = "word_embedding_dimension" if "word_embedding_dimension" in options else "embedding_dimension"
            options[size_key] = embedding_size
            (inner / "config.json").write_text(json.dumps(options, indent=2), encoding="utf-8")
    return True
