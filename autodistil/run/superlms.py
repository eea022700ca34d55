"""The SuperLMs of a run: made from its teacher, trained in its folder, and what teaches each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from autodistil.errors import RunError
from autodistil.models.superlm import SuperLM
from autodistil.models.vocabulary import Vocabulary
from autodistil.run.inputs import RunInputs
from autodistil.space.space import OneStudent, StudentSet, SubSpace
from autodistil.space.student import Candidate
from autodistil.training.assistant import StudentAssistant, check_objective, taught_by_model, taught_by_sub_space
from autodistil.training.checkpoint import WEIGHTS, load_weights
from autodistil.training.trainer import Targets


@dataclass
class SuperLMs:
    """SuperLMs of the sub-spaces of a run."""

    inputs: RunInputs
    _trained: dict[str, SuperLM] = field(default_factory=dict, init=False, repr=False)

    def new(self, students: StudentSet, vocabulary: Vocabulary | None = None) -> SuperLM:
        """A SuperLM that starts from the teacher; training needs no vocabulary."""
        inputs = self.inputs
        fit = students.has_axis_of("embedding_size") and not self.is_trained(students)
        tokens = torch.from_numpy(inputs.training_tokens.sample_sequences(64)) if fit else None
        head = inputs.output_head
        return SuperLM.from_teacher(inputs.ordered_teacher, students, inputs.layer_map, vocabulary, tokens, head)

    def is_trained(self, students: StudentSet) -> bool:
        """Whether the SuperLM of a sub-space has finished its training."""
        return (self.inputs.folder.superlm_folder(students.name) / WEIGHTS).is_file()

    def trained(self, name: str) -> SuperLM:
        """The SuperLM of a sub-space with its trained weights, read once."""
        if name not in self._trained:
            sub_space = self.inputs.space.sub_space(name)
            superlm = self.new(sub_space, self.inputs.vocabulary_of(sub_space))
            load_weights(superlm, self.inputs.folder.superlm_folder(name))
            self._trained[name] = superlm
        return self._trained[name]

    def of(self, candidate: Candidate) -> SuperLM:
        """The trained SuperLM that holds a candidate."""
        return self.trained(candidate.sub_space)

    def alone(self, candidate: Candidate) -> SuperLM:
        """A candidate as a SuperLM of its own, with its slice of the trained weights."""
        return self.of(candidate).alone(candidate.config, candidate.id)

    def untrained(self, candidate: Candidate) -> SuperLM:
        """A candidate as a SuperLM of its own, with the slice of the teacher that it started from."""
        alone = OneStudent(candidate.id, candidate.config)
        return self.new(alone, self.inputs.vocabulary_of(alone)).alone(candidate.config)

    def refined(self, candidate: Candidate) -> SuperLM:
        """A refined student as a SuperLM of its own, with its trained weights."""
        superlm, folder = self.alone(candidate), self.inputs.folder.refined_folder(candidate.id)
        try:
            load_weights(superlm, folder)
        except RunError as error:
            raise RunError(
                f"{str(error).rpartition('; ')[0]}; remove all of {str(folder)!r} to refine the student anew, "
                "or take the slice of its SuperLM: export --unrefined"
            ) from error
        return superlm

    # ---- what teaches them

    @cached_property
    def taught(self) -> frozenset[str]:
        """Names of the sub-spaces that the assistant teaches; the teacher teaches all others.

        Raises:
            ConfigError: there are none, or the assistant cannot teach them with this objective.
        """
        space, name, model = self.inputs.space, self.inputs.config.assistant, self.inputs.assistant_model
        if name is None:
            return frozenset()
        dims = model.dims if model else space.sub_space(name).largest
        taught = taught_by_model(model, space) if model else taught_by_sub_space(name, space)
        check_objective(self.inputs.objective, name, dims, taught)
        return frozenset(sub.name for sub in taught)

    @cached_property
    def _assistant(self) -> Targets:
        """The assistant; one of the run must have been trained."""
        if self.inputs.assistant_model is not None:
            return self.inputs.assistant_model
        assert self.inputs.config.assistant is not None
        superlm = self.trained(self.inputs.config.assistant)
        return StudentAssistant(superlm, superlm.sub_space.largest)

    def targets_for(self, name: str) -> Targets | None:
        """What teaches the SuperLM of a sub-space, or a student of it alone; None: the teacher.

        Args:
            name: the sub-space's, or the student's id (which begins with it; no name holds a hyphen).
        """
        return self._assistant if name.partition("-")[0] in self.taught else None

    def with_assistant(self, sub_spaces: Sequence[SubSpace]) -> list[SubSpace]:
        """`sub_spaces` and the one whose largest student has to be trained to teach some of them, in their order."""
        untaught = any(sub.name in self.taught and not self.is_trained(sub) for sub in sub_spaces)
        needed = {sub.name for sub in sub_spaces} | ({self.inputs.config.assistant} if untaught else set())
        return [sub for sub in self.inputs.space.sub_spaces if sub.name in needed]
