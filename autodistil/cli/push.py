"""`autodistil push`: sends an exported student, and lists what was sent or would be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodistil.cli.app import app
from autodistil.cli.terminal import print_lines


@app.command(epilog="Example: `autodistil push my-student --repo my-name/my-student --private --dry-run`")
def push(
    folder: Annotated[Path, typer.Argument(help="An exported student.", metavar="DIR")],
    repo: Annotated[str, typer.Option(help="Repository on the Hub: NAME or ORGANISATION/NAME.", metavar="NAME")],
    private: Annotated[bool, typer.Option("--private", help="Create it for its owners only.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be sent.")] = False,
) -> None:
    """Put an exported student on the Hugging Face Hub."""
    from autodistil.export import hub

    pushed = hub.push(folder, repo, private, dry_run)
    files = [f"{size / 1e6:10.3f} MB  {name}" for name, size in pushed.files]
    total = sum(size for _, size in pushed.files) / 1e6
    done = f"sent to {pushed.repo}: {pushed.url}" if pushed.url else f"would go to {pushed.repo}; nothing was sent"
    stay = [f"stays here, as autodistil did not write it: {name}" for name in pushed.left]
    print_lines(*files, *stay, f"{len(files)} files, {total:.1f} MB, {done}")
