"""The static picture of the front, for READMEs and papers: PNG or PDF, drawn by kaleido where a Chrome is found."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from autodistil.errors import RunError
from autodistil.report.front import front_figure
from autodistil.report.rows import ReportData, headline, key_figures
from autodistil.report.style import LIGHT, Spec, as_text, resolve
from autodistil.utils import atomic_path

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0
"""After this much wall-clock time there is no picture; a start of Chrome and a drawing take about five seconds."""
_SIZE = {"width": 875, "height": 500, "scale": 1.6}
"""1400 x 800 pixels, drawn as a figure of 875 x 500 so that text stays legible where the picture is shrunk."""
_CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-"}
"""Formats and what their files begin with."""


def write_png(data: ReportData, path: Path) -> Path | None:
    """Write the front over FLOPs as a picture of 1400 x 800 pixels. Never raises.

    Returns:
        `path`, or None where there is no Chrome or kaleido or they fail; the reason is logged.
    """
    try:
        return _write(data, path)
    except Exception as error:  # a page without a picture is still a report
        logger.info("no picture of the front: %s", error)
        return None


def write_picture(data: ReportData, path: Path) -> Path:
    """Write the front over FLOPs as PNG or PDF, by the ending of `path`, which is returned.

    Raises:
        RunError: there is no Chrome or kaleido, they fail, or the disk refuses; an older picture is untouched.
    """
    try:
        return _write(data, path)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise RunError(f"cannot draw {str(path)!r}: {error}; --format html and md need no browser") from error


def _write(data: ReportData, path: Path) -> Path:
    picture = drawn(picture_figure(data), path.suffix[1:])
    with atomic_path(path) as temporary:
        temporary.write_bytes(picture)
    return path


def find_chrome() -> Path | None:
    """A Chrome or Chromium: `$BROWSER_PATH`, or one on the path."""
    candidates = [os.environ.get("BROWSER_PATH"), *(shutil.which(name) for name in _CHROMES)]
    return next((Path(found) for found in candidates if found and Path(found).is_file()), None)


def picture_figure(data: ReportData, cost: str = "flops") -> Spec:
    """The front over a cost with a title, in the light colours."""
    figure = front_figure(data, cost)
    costs = [f"{figure.value} ({figure.note})" for figure in key_figures(data)[:1] if figure.note]
    answer = data.teacher.answer(data.budgets)
    subtitle = " · ".join([data.title if answer is None else answer.removesuffix("."), *costs])
    layout = figure["layout"]
    layout["margin"]["t"] += 48
    layout["title"] = {
        "text": f"<b>{as_text(headline(data).removesuffix('.'), 72)}</b>",
        "subtitle": {"text": as_text(subtitle, 100), "font": {"size": 13, "color": "var(--dim)"}},
        "font": {"size": 17, "color": "var(--ink)"},
        "x": 0,
        "xref": "container",
        "xanchor": "left",
        "pad": {"l": 24},
        "y": 0.955,
        "yanchor": "top",
    }
    resolved: Spec = resolve({**figure, "layout": {**layout, "paper_bgcolor": "var(--paper)"}}, LIGHT)
    return resolved


def drawn(figure: Spec, form: str = "png") -> bytes:
    """The figure as PNG or PDF.

    Raises:
        RuntimeError: Chrome or kaleido is missing, or fails.
        subprocess.TimeoutExpired: they take too long.
    """
    chrome = find_chrome()
    if chrome is None:
        raise RuntimeError("no Chrome is found; install Chromium or set BROWSER_PATH")
    if importlib.util.find_spec("kaleido") is None:
        raise RuntimeError("kaleido is missing; install it with: pip install 'autodistil[png]'")
    task = json.dumps({"figure": figure, "options": {"format": form, **_SIZE}, "chrome": str(chrome)})
    # -P: modules beside the script must not shadow others of the same name.
    command = [sys.executable, "-P", str(Path(__file__).with_name("kaleido_process.py"))]
    with tempfile.TemporaryDirectory(prefix="autodistil-", ignore_cleanup_errors=True) as folder:
        done = subprocess.run(
            command,
            input=task.encode(),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            env={**os.environ, "TMPDIR": folder},
            check=False,
        )
    if done.returncode or not done.stdout.startswith(_MAGIC[form]):
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"kaleido failed: {lines[-1]}")
    return done.stdout
