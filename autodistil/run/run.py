"""One run: what its stages share, each piece loaded when it is first needed.

Stages take a `Run` and hand what they call the pieces that it needs, so that a signature tells what a function reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from autodistil.config import RUN_OPTIONS, RunConfig, layered
from autodistil.evaluation.heldout import HeldOutScorer
from autodistil.run.folder import RunFolder, merge_with_run
from autodistil.run.inputs import RunInputs, default_folder
from autodistil.run.superlms import SuperLMs
from autodistil.run.tracking import GuardedTracker, TrackedRun
from autodistil.utils import Progress, shown


@dataclass
class Run:
    """A run folder and its configuration, and what they stand for."""

    folder: RunFolder
    config: RunConfig
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.inputs = RunInputs(self.folder, self.config, self.progress)
        self.superlms = SuperLMs(self.inputs)
        self.scorer = HeldOutScorer(self.inputs.read_heldout, self.superlms.trained)
        self.tracker = GuardedTracker(self.config.track, self._tracked, self.progress.say)

    @classmethod
    def open(cls, folder: Path | None, *layers: Mapping[str, Any], progress: Progress | None = None) -> Run:
        """The run in `folder` (by default `runs/<teacher>-<space>`), its configuration under `layers`.

        Raises:
            AutodistilError: an option, the folder, teacher or space is wrong; nothing was touched.
        """
        place = RunFolder(folder if folder is not None else default_folder(layered(*layers)))
        return cls(place, merge_with_run(place, *layers), progress or Progress())

    @contextmanager
    def only_read(self) -> Iterator[Run]:
        """The same run to look at: what it would keep when it is first needed goes to a temporary folder."""
        with TemporaryDirectory(prefix="autodistil-") as elsewhere:
            yield Run(self.folder.only_read(Path(elsewhere)), self.config, self.progress)

    def search_under(self, budgets: Sequence[str]) -> None:
        """From here on the run has these budgets; what is loaded stays loaded."""
        self.config = self.inputs.config = replace(self.config, budgets=tuple(budgets))

    def _tracked(self) -> TrackedRun:
        """What a tracker is told when it is opened; the run must have its record by then."""
        resolved = self.folder.resolved()
        fixed = {**self.config.to_dict(), **{key: resolved.get(key) for key in ("objective", "train_steps")}}
        options = {name: str(shown(fixed[name])) for name in sorted(RUN_OPTIONS)}
        return TrackedRun(self.folder.identity(), self.folder.path.resolve().name, self.folder.path, options)
