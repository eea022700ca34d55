"""Opens the run that the words of a command mean. Heavy imports happen inside, so that help is quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autodistil.cli.terminal import quiet_libraries
from autodistil.config import RunConfig, read_config, read_recipe, without_trust
from autodistil.utils import usable_cpus

if TYPE_CHECKING:
    from autodistil.run.run import Run


def open_run(
    run: Path | None,
    config: Path | None,
    options: dict[str, Any],
    quiet: bool = False,
    recipe: Path | None = None,
    anew: Sequence[str] = (),
) -> Run:
    """Open a run with options from files and, over them, the command line, and set the process up for it.

    The options in `anew` are the defaults unless given, whatever the run had before.
    """
    from autodistil.cli.progress import TerminalProgress
    from autodistil.run.folder import RunFolder

    files = [(read, path) for read, path in ((read_config, config), (read_recipe, recipe)) if path]
    trusted = bool(options.get("trust_remote_code"))
    layers = [without_trust(read(path), f"file {str(path)!r}", trusted) for read, path in files]
    if run is not None:
        RunFolder(run).exists()  # refuse a foreign folder before anything heavy is loaded
    quiet_libraries()
    from autodistil.run.run import Run

    before = {name: getattr(RunConfig(), name) for name in anew}
    opened = Run.open(run, before, *layers, options, progress=TerminalProgress(stderr=quiet))
    set_threads(opened.config.threads)
    return opened


def open_existing(run: Path, quiet: bool = False, options: dict[str, Any] | None = None) -> Run:
    """Open a run that is there, with its own options."""
    from autodistil.run.folder import RunFolder

    RunFolder(run).record()
    return open_run(run, None, options or {}, quiet)


def set_threads(threads: int | None) -> None:
    """CPU threads of this process; as many as it may use CPUs unless given."""
    import torch

    torch.set_num_threads(threads or usable_cpus())
