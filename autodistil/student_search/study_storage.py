"""Where a study is kept: the run folder's SQLite file, a PostgreSQL database, or a journal file on shared storage.

Optuna's storages let several processes, the drivers, write to one study. What they do not give is a moment in which
nobody else asks; each kind of storage has a lock of its own for that, which ends with its holder, however that ends.
And drivers must see when another one no longer lives: each counts up a number of its own in the study's attributes, and
whether it still counts is judged by the observer's clock alone, so clocks of different machines need not agree.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from autodistil.errors import ConfigError, RunError, one_line, one_line_named
from autodistil.utils import shown

logger = logging.getLogger(__name__)

_DATABASES = ("sqlite", "postgresql")
_EXAMPLE = "postgresql+psycopg://user@host/database"
_SQLITE_PATIENCE_S = 60
"""Seconds that SQLite waits for another process that writes."""
BEAT_S = 15.0
"""Seconds between two signs of life of a driver."""
SILENCE_S = 120.0
"""Seconds without one after which a driver is taken for dead and its students are scored by others."""
_LEFT = -1
"""The count of a driver that ended in order."""
_REFUSED = (SQLAlchemyError, sqlite3.Error, OptunaError, OSError)
"""What storages raise."""
_PREFIX = "driver:"
"""Prefix of the attribute that holds a driver's count."""

Lock = Callable[[str], AbstractContextManager[None]]
"""`with lock(name)`: nobody else is between these lines for that name."""


@dataclass(frozen=True)
class StudyStorage:
    """A storage that is not opened yet, and its lock."""

    open: Callable[[], BaseStorage]
    """Opens the storage, and is to be called while the lock is held: the first opening makes the tables."""
    lock: Lock

    def close(self, storage: BaseStorage) -> None:
        """Give back the connections of a storage that was opened; it is not to be used any more."""
        storage.remove_session()
        if isinstance(storage, RDBStorage):
            storage.engine.dispose()


def study_storage(where: str | Path) -> StudyStorage:
    """The storage at a URL (`sqlite:///...`, `postgresql+psycopg://host/database`), or in a file.

    Args:
        where: a `Path` is a SQLite file, opened by its path: in a URL `?`, `%20` and `{` of a folder's name would mean
            something else. A string is a URL or else a journal file.

    Raises:
        ConfigError: not such a URL, one with a password in it, or the folder of the journal file is missing.
    """
    if isinstance(where, Path):
        connect = partial(sqlite3.connect, where, timeout=_SQLITE_PATIENCE_S, check_same_thread=False)
        open_file = partial(RDBStorage, "sqlite:///study.db", engine_kwargs={"creator": connect})
        return StudyStorage(open_file, partial(_file_lock, where))
    if "://" in where:
        url = _checked_url(where)
        if url.get_backend_name() == "sqlite":
            options: dict[str, Any] = {"connect_args": {"timeout": _SQLITE_PATIENCE_S}}
            lock: Lock = partial(_file_lock, Path(url.database or "study.db"))
        else:  # searches may be idle for longer than a server or firewall keeps a connection
            options, lock = {"pool_pre_ping": True}, partial(_advisory_lock, url)
        return StudyStorage(partial(RDBStorage, str(url), engine_kwargs=options), lock)
    path = Path(where)
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(
            f"study storage {where!r} is no file in a folder that is there; "
            f"give a journal file on shared storage, or a URL such as {_EXAMPLE}"
        )
    return StudyStorage(lambda: JournalStorage(JournalFileBackend(where)), partial(_file_lock, path))


@contextmanager
def opening(where: str | Path) -> Iterator[None]:
    """Say in one line that a study cannot be opened: damaged, not there, not writable, or without its driver."""
    try:
        yield
    except (*_REFUSED, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ImportError) as error:
        raise RunError(
            f"study {_name(where)!r} cannot be opened ({_reason(error)}); see that it is there, or remove it to search "
            "again"
        ) from error


@contextmanager
def working(where: str | Path) -> Iterator[None]:
    """Say in one line that an open study can no longer be read or written: a full disk, a folder that is gone, damage.

    Only what storages raise is taken for that.
    """
    try:
        yield
    except _REFUSED as error:
        raise RunError(
            f"study {_name(where)!r} cannot be read or written any more ({_reason(error)}); see that its folder is "
            "there and the disk has space, then search again, which goes on from the scores in it; remove it only "
            "where it is damaged"
        ) from error


def _name(where: str | Path) -> str:
    return shown(where) if "://" in str(where) else str(where)


def _reason(error: BaseException) -> str:
    """What the database said first, in its own words where Optuna or SQLAlchemy wrap them."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error, 150)


def _checked_url(where: str) -> URL:
    try:
        url = make_url(where)
    except ArgumentError:
        raise ConfigError(
            f"study storage {shown(where)!r} cannot be read as a URL; give one such as {_EXAMPLE}"
        ) from None
    if url.password is not None:
        raise ConfigError(
            f"study storage {shown(where)!r} has a password in it, which run.yaml would keep; "
            "leave it out, and give it in PGPASSWORD or ~/.pgpass"
        )
    if url.get_backend_name() not in _DATABASES:
        raise ConfigError(
            f"study storage {shown(where)!r} is of another kind of database; "
            f"allowed: {', '.join(_DATABASES)}, or a journal file; give one such as {_EXAMPLE}"
        )
    return url


@contextmanager
def _file_lock(path: Path, name: str) -> Iterator[None]:
    """One for all studies of the file `path`; `flock`, which NFS has from version 4 on."""
    with FileLock(path.with_name(f".{path.name}.asking")):
        yield


@contextmanager
def _advisory_lock(url: URL, name: str) -> Iterator[None]:
    """PostgreSQL's, on a connection of its own: it is released when that closes."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": zlib.crc32(name.encode())})
        yield


@contextmanager
def heartbeat(study: optuna.Study, driver: str, seconds: float = BEAT_S) -> Iterator[None]:
    """Give signs of life from a thread of its own, as scoring and loading may take long.

    One that the storage refuses is said and left out: the next one may pass, before others take this driver for dead.
    """
    done, attribute = threading.Event(), _PREFIX + driver
    first = study.user_attrs.get(attribute, 0) + 2  # 1 at least, and never what it was
    study.set_user_attr(attribute, first)

    def go_on() -> None:
        for count in itertools.count(first + 1):
            if done.wait(seconds):
                return
            _say_unless_refused(study, attribute, count)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _say_unless_refused(study, attribute, _LEFT)


def _say_unless_refused(study: optuna.Study, attribute: str, count: int) -> None:
    try:
        study.set_user_attr(attribute, count)
    except Exception as error:  # whatever a storage raises, scoring goes on
        logger.warning("sign of life of this driver was not written (%s)", one_line_named(error, 150))


@dataclass
class Watch:
    """What one driver sees of the others."""

    silence_s: float = SILENCE_S
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Driver -> its last beat and when it was first seen."""

    def gone(self, study: optuna.Study, driver: str) -> bool:
        """Whether a driver ended, or was silent for too long since this one first looked."""
        beat, now = study.user_attrs.get(_PREFIX + driver, 0), time.monotonic()
        last, since = self._seen.get(driver, (beat, now))
        self._seen[driver] = (beat, since if beat == last else now)
        return beat == _LEFT or now - self._seen[driver][1] > self.silence_s
