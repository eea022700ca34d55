"""What an export must hold: it computes what the SuperLM's student does, and costs what the closed forms say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from autodistil.costs.fvcore_check import count_flops
from autodistil.data.batch import Batch, real_tokens
from autodistil.errors import IntegrityError
from autodistil.formats.onnx_bits import ONNX_BITS
from autodistil.models.superlm import SuperLM
from autodistil.space.student import Candidate, StudentConfig

PARITY_TOLERANCE = 1e-5
"""Largest allowed difference of last hidden states between the SuperLM's student and the reloaded export; of a decoder,
of logits, as a share of the largest."""


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
    """Texts at several lengths with padding, in the teacher's numbering of tokens and in the student's.

    One is longer than a student's window.
    """
    generator = torch.Generator().manual_seed(0)
    kept = superlm.kept_tokens(student)
    beyond = min((student.window or 0) + 16, superlm.family.max_length(superlm.base_config))
    for length in (7, 64, *([beyond] if student.window else [])):
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


_PARITY_INPUTS = {"text": _random_texts, "image": _random_images}
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
    head = superlm.output_head(candidate.config) if candidate.config.quantised else None
    beside = 0 if head is None else head.nbytes  # in the closed forms it is of no file
    size = (served_file(candidate.config, folder).stat().st_size - beside) / 1e6
    if size > costs["size_mb"]:
        raise IntegrityError(f"{candidate.id} takes {size} MB, more than the bound {costs['size_mb']} MB")


def served_file(student: StudentConfig, folder: Path) -> Path:
    """The file of an export that a budget in MB limits: the weights, or the ONNX file where they have few bits."""
    return folder / (ONNX_BITS.file or "" if student.quantised else "model.safetensors")


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
