"""Teacher assistant: a model between teacher and students, itself distilled from the teacher, teaches the small ones.

A small student follows a large teacher less well than one that is closer to it (Mirzadeh et al., arXiv 1902.03393).
MiniLM (arXiv 2002.10957, section 3.3) puts an assistant of the teacher's depth and the student's width between the two
where the student has at most half of the teacher's layers and half of its width. Departure: here it is the largest
student of a sub-space of the run, which is trained first, or any Hugging Face encoder with the teacher's tokenizer.

An assistant is asked for the states of its last layer: what it learned from the teacher's distilled layer, whichever
that is. Held-out losses stay against the teacher, so that they compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from autodistil.data.batch import Batch
from autodistil.errors import ConfigError, suggest
from autodistil.models.attention import ModelStates
from autodistil.models.packaged import PACKAGED
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher, load_teacher
from autodistil.objectives.objective import Objective
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import StudentConfig


@dataclass(frozen=True)
class StudentAssistant:
    """A trained student in the place of the teacher."""

    superlm: SuperLM
    student: StudentConfig

    @cached_property
    def _weights(self) -> Mapping[str, Tensor]:
        return {name: value.detach() for name, value in self.superlm.weights(self.student).items()}

    @torch.no_grad()
    def states(self, batch: Batch, layer: int | None = None, output: bool = False, hidden: bool = False) -> ModelStates:
        """Attention states of its last layer and, if asked, last and all hidden states; as `Teacher.states`."""
        assert layer is None, "an assistant teaches by its last layer"
        states = self.superlm.forward(self.student, batch, self._weights, output, hidden)
        return replace(states, tokens=batch["input_ids"])


def is_sub_space(name: str, space: SearchSpace) -> bool:
    """Whether an assistant is named after a sub-space; otherwise it is a model of its own.

    Raises:
        ConfigError: it is neither.
    """
    names = [sub.name for sub in space.sub_spaces]
    if name in names:
        return True
    if "/" in name or name in PACKAGED or Path(name).expanduser().is_dir():
        return False
    raise ConfigError(
        f"assistant {name!r}{suggest(name, names)} is no sub-space and no folder; allowed: {', '.join(names[1:])}, or "
        "the folder of an encoder with the teacher's tokenizer; correct it"
    )


def load_assistant(
    source: str, teacher: Teacher, seq_len: int, trust_remote_code: bool = False, commit: str | None = None
) -> Teacher:
    """Load an assistant that is a model of its own.

    Args:
        source: folder or Hugging Face id.
        teacher: the run's teacher.
        seq_len: tokens of the longest text that it has to read.
        trust_remote_code: allow code that comes with it.
        commit: of its repository on the Hub, in the place of the revision.

    Raises:
        TeacherError: it cannot be loaded.
        ConfigError: it reads text otherwise than the teacher does.
    """
    assistant = load_teacher(source, str(teacher.model.device), trust_remote_code, commit)
    if teacher.images is not None or assistant.images is not None:
        ours, theirs = ((one.images and one.images.fingerprint, one.max_length) for one in (assistant, teacher))
        if ours != theirs:  # relations compare token by token: both must see the same patches of the same pixels
            raise ConfigError(
                f"assistant {source!r} reads images otherwise than the teacher; give one with the teacher's image "
                f"processor and {teacher.max_length} tokens an image"
            )
        return assistant
    if assistant.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise ConfigError(
            f"assistant {source!r} has another tokenizer than the teacher ({len(assistant.tokenizer):,} tokens, not "
            f"the same {len(teacher.tokenizer):,}); give one with the teacher's tokenizer, unpruned"
        )
    if assistant.max_length < seq_len:
        raise ConfigError(
            f"assistant {source!r} reads {assistant.max_length} tokens at most, fewer than seq_len = {seq_len}; give "
            "another, or lower --seq-len"
        )
    return assistant


def taught_by_sub_space(name: str, space: SearchSpace) -> tuple[SubSpace, ...]:
    """The sub-spaces that the largest student of the sub-space `name` teaches: those before it.

    Raises:
        ConfigError: there are none, or one of them has a larger student.
    """
    names = [sub.name for sub in space.sub_spaces]
    before = space.sub_spaces[: names.index(name)]
    if not before:
        allowed = f"allowed: {', '.join(names[1:])}" if names[1:] else "there is no other"
        raise ConfigError(f"assistant {name!r} is the first sub-space and has none before it to teach; {allowed}")
    largest = space.sub_space(name).largest
    larger = [sub.name for sub in before if sub.largest.encoder_weights > largest.encoder_weights]
    if larger:
        raise ConfigError(
            f"assistant {name!r} is smaller than sub-space {larger[0]!r} before it, which it would have to teach; "
            "order the sub-spaces of the search space from small to large"
        )
    return before


def taught_by_model(assistant: Teacher, space: SearchSpace) -> tuple[SubSpace, ...]:
    """The sub-spaces without a student that is larger than the assistant.

    Raises:
        ConfigError: there are none.
    """
    size = assistant.dims.encoder_weights
    taught = tuple(sub for sub in space.sub_spaces if sub.largest.encoder_weights <= size)
    if not taught:
        raise ConfigError(
            f"assistant {assistant.source!r} ({assistant.dims.label}) is smaller than the largest student of every "
            "sub-space; give a larger one, or leave it out"
        )
    return taught


def check_objective(objective: Objective, name: str, dims: StudentConfig, taught: tuple[SubSpace, ...]) -> None:
    """Make sure that an assistant's states can be targets.

    Raises:
        ConfigError: relation heads do not divide its width, or it is too narrow for what is compared.
    """
    heads = objective.options.relation_heads
    if objective.needs_attention and dims.attention_width % heads:
        raise ConfigError(
            f"{heads} relation heads do not divide the attention width {dims.attention_width} of assistant {name!r}; "
            "set relation_heads to a divisor of it, or give another assistant"
        )
    widest = max(sub.envelope.hidden_size for sub in taught)
    if objective.compares_dimensions and dims.hidden_size < widest:
        raise ConfigError(
            f"assistant {name!r} is {dims.hidden_size} wide, its students up to {widest}, and objective "
            f"{objective.name!r} compares them dimension by dimension; give a wider assistant, or --objective "
            "relation-kl+embedding-similarity"
        )
