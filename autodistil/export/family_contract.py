"""What a family table must give, checked on a small random model of the family: for whoever writes a table.

The model has the config of the given one with small axes, random weights, and norms and biases that matter. Each clause
is an equality; the first that fails is named. Gradients and captured relations are tested in tests/families.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from autodistil.costs.closed_form import flops, parameters
from autodistil.costs.fvcore_check import count_flops
from autodistil.data.batch import Batch
from autodistil.errors import IntegrityError, one_line_named
from autodistil.models.families import family_of
from autodistil.models.hf_folder import loading_errors
from autodistil.models.ordering import apply_order, importance_by_activation
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher, as_teacher
from autodistil.space.space import SubSpace
from autodistil.space.student import LayerSizes, StudentConfig

TOLERANCE = 1e-5
"""Largest difference of hidden states that rounding explains."""
HALF_PRECISION = 0.1
"""Largest relative difference that eight bits of mantissa explain."""
_MOST_PARAMETERS = 200_000_000
"""Of the small model: three million tokens."""
_LENGTH = 24
_IMAGE = {"image_size": 32, "patch_size": 8}
_AXES = StudentConfig(num_layers=4, hidden_size=64, num_heads=4, head_size=16, intermediate_size=128)
_ATTENTION = {"hidden_size": (32, 64), "num_heads": (2, 4), "head_size": (8, 16)}
_SPACE = SubSpace("contract", {"num_layers": (2, 3, 4), **_ATTENTION, "mlp_ratio": (1.0, 2.0)})
_LAYERS = tuple(LayerSizes(*sizes) for sizes in ((0, 128), (2, 64), (4, 0), (2, 128)))
"""Layers of their own: one without attention, one without an FFN."""


@dataclass(frozen=True)
class _Subject:
    """What the clauses look at."""

    teacher: Teacher
    superlm: SuperLM
    batch: Batch

    @property
    def students(self) -> list[StudentConfig]:
        """Those of the SuperLM's grid and, where the family has them, some whose layers have sizes of their own."""
        depth = self.teacher.dims.num_layers
        layers = [_LAYERS[:depth], (*_LAYERS[: depth - 2], LayerSizes(0, 0), LayerSizes(2, 64))]
        uneven = [StudentConfig.of_layers(sizes, hidden_size=32, head_size=16) for sizes in layers if depth > 1]
        return [*self.superlm.sub_space.students, *(uneven if self.teacher.family.own_config else ())]


def check_family(config: PretrainedConfig) -> tuple[str, ...]:
    """Check the table that describes a model of this config.

    Returns:
        The clauses that hold: all of them.

    Raises:
        TeacherError: there is no table.
        IntegrityError: a clause does not hold; the message names it.
    """
    teacher = random_teacher(config)
    try:
        subject = _Subject(teacher, SuperLM.from_teacher(teacher, _SPACE), _random_batch(teacher))
        for name, holds in CLAUSES.items():
            problem = holds(subject)
            if problem:
                raise IntegrityError(_message(config, name, problem))
    except (RuntimeError, LookupError, AttributeError, AssertionError, TypeError, ValueError) as error:
        problem = one_line_named(error, 200)
        raise IntegrityError(_message(config, "slices fit the model", problem)) from error
    return tuple(CLAUSES)


def random_teacher(config: PretrainedConfig) -> Teacher:
    """A teacher of a config's family: 4 layers x 64, or fewer layers where the config has fewer; no tokenizer.

    One that reads images sees 16 patches.

    Raises:
        TeacherError: no table describes it, or no such model can be built.
    """
    with loading_errors(f"config.json of a {config.model_type} describes no model", "; correct it"):
        return _random_teacher(config)


def _random_teacher(config: PretrainedConfig) -> Teacher:
    family = family_of(config)
    depth = min(_AXES.num_layers, family.dimensions(config).num_layers)
    axes, config = replace(_AXES, num_layers=depth), copy.deepcopy(config)
    if family.kv_heads is not None:  # whatever share keys and values there, pairs do here
        setattr(config, family.kv_heads, axes.num_heads // min(2, family.queries_per_kv(config)))
        setattr(config, family.fields["num_heads"], axes.num_heads)
    kind: Any = AutoModelForCausalLM if family.causal else AutoModel  # their class methods are not annotated
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        small = family.student_config(config, axes, range(depth))
        if family.modality == "image":
            vars(small).update(_IMAGE)
        small.dtype = torch.float32
        with torch.device("meta"):
            size = kind.from_config(copy.deepcopy(small)).num_parameters()
        if size > _MOST_PARAMETERS:
            raise ValueError(f"with 4 layers x 64 it has {size:,} parameters; allowed: at most {_MOST_PARAMETERS:,}")
        model: PreTrainedModel = kind.from_config(small).eval()
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    no_tokenizer: Any = None
    return as_teacher("random", None, model, family, no_tokenizer, getattr(model, "pooler", None) is not None)


def _random_batch(teacher: Teacher) -> Batch:
    """Three texts, one of them padded, of ids that no family uses for anything else; or three images of noise."""
    if teacher.family.modality == "image":
        channels, size = teacher.model.config.num_channels, teacher.model.config.image_size
        return {"pixel_values": torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(0))}
    vocabulary = teacher.model.config.vocab_size
    ids = torch.randint(vocabulary // 2, vocabulary, (3, _LENGTH), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, _LENGTH // 2 :] = 0
    return {"input_ids": ids.where(mask.bool(), teacher.padding_id), "attention_mask": mask}


def _message(config: PretrainedConfig, clause: str, problem: str) -> str:
    return f"the family table of {config.model_type!r} breaks {clause!r}: {problem}; correct it (docs/families.md)"


# ---- clauses: None where one holds, else what is wrong


@torch.no_grad()
def _sliced_is_extracted(subject: _Subject) -> str | None:
    for student in subject.students:
        sliced, model = subject.superlm.forward(student, subject.batch, output=True), subject.superlm.extract(student)
        problem = _difference(sliced.output, model.base_model(**subject.batch).last_hidden_state)
        if sliced.output is not None and sliced.head is not None:
            problem = problem or _difference(sliced.output @ sliced.head.T, model(**subject.batch).logits)
        if problem:
            return f"{student.label} {problem}"
    return None


def _full_size_is_the_teacher(subject: _Subject) -> str | None:
    ours = subject.superlm.forward(subject.teacher.dims, subject.batch, output=True).output
    return _difference(ours, subject.teacher.states(subject.batch, output=True).output)


def _order_keeps_the_function(subject: _Subject) -> str | None:
    order = importance_by_activation(subject.teacher, [subject.batch]).order()
    ours = apply_order(subject.teacher, order).states(subject.batch, output=True).output
    theirs = subject.teacher.states(subject.batch, output=True).output
    assert theirs is not None
    return _difference(ours, theirs[..., order.hidden_size])


def _parameters_are_counted(subject: _Subject) -> str | None:
    for student in subject.students:
        closed = int(parameters([student], subject.teacher.encoder_shape)[0])
        real = sum(value.numel() for value in subject.superlm.meta_model(student).parameters())
        if closed != real:
            return f"{student.label} has {real}, the closed form says {closed}"
    return None


def _flops_are_counted(subject: _Subject) -> str | None:
    for student in [*subject.students[:-2:5], *subject.students[-2:]]:
        length = subject.teacher.encoder_shape.fixed_length or _LENGTH
        closed = int(flops([student], subject.teacher.encoder_shape, length)[0])
        counted = count_flops(subject.superlm.meta_model(student), length)
        if closed != counted:
            return f"fvcore counts {counted} for {student.label}, the closed form {closed}"
    return None


def _trains_in_bfloat16(subject: _Subject) -> str | None:
    superlm, rows = subject.superlm, subject.superlm.token_rows(subject.batch)
    student = superlm.sub_space.largest
    outputs, gradients = [], []
    for dtype in (torch.float32, torch.bfloat16):
        leaves = superlm.leaf_weights(student, rows, dtype)
        output = superlm.forward(student, rows.batch if rows else subject.batch, leaves, output=True).output
        assert output is not None
        output.float().square().mean().backward()
        outputs.append(output.detach().float())
        gradients.append(torch.cat([v.grad.flatten().float() for v in leaves.values() if v.grad is not None]))
    for what, (exact, rounded) in (("output", outputs), ("gradient", gradients)):
        error = float((rounded - exact).norm() / exact.norm())
        if error > HALF_PRECISION:
            return f"{what} differs from that in fp32 by {100 * error:.0f} %"
    return None


def _difference(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> str | None:
    assert ours is not None
    assert theirs is not None
    difference = (ours - theirs).abs().max().item()
    return f"differs by {difference:.1e}" if difference > TOLERANCE else None


CLAUSES: Mapping[str, Callable[[_Subject], str | None]] = {
    "sliced = extracted": _sliced_is_extracted,
    "student of full size = teacher": _full_size_is_the_teacher,
    "importance order keeps the function": _order_keeps_the_function,
    "parameters in closed form = counted": _parameters_are_counted,
    "FLOPs in closed form = fvcore": _flops_are_counted,
    "trains in bfloat16": _trains_in_bfloat16,
}
"""Clause -> check."""
