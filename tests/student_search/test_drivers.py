"""Several drivers on one study: as many students as asked, none twice, and those of the dead are scored by others."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import optuna
import pytest

from autodistil.costs.budget import read_budget
from autodistil.errors import ConfigError, RunError
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.student_search import study
from autodistil.student_search import study_storage as drivers
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.racing import Score
from autodistil.student_search.samplers import SAMPLERS
from autodistil.student_search.study import Search
from autodistil.student_search.study_storage import study_storage

SHAPE = EncoderShape(vocab_size=1000, other_embedding_rows=66, embedding_size=None, pooler=True)
AXES = {"num_layers": (1, 2, 3), "hidden_size": (32, 64, 96), "head_size": (16,), "mlp_ratio": (1.0, 2.0, 3.0)}
SPACE = SearchSpace("test", "", (SubSpace("one", AXES),))
PROBLEM = SearchProblem(SPACE, SHAPE, (read_budget("1TFLOPs"),), 64)


def sqlite_of(folder):
    return f"sqlite:///{folder / 'study.db'}"


def journal_of(folder):
    return str(folder / "study.log")


@pytest.fixture(params=["sqlite", "journal", pytest.param("postgresql", marks=pytest.mark.slow)])
def storage(request, tmp_path):
    """A storage of each kind; PostgreSQL in a cluster of its own, on a socket, where its programs are installed."""
    if request.param != "postgresql":
        yield {"sqlite": sqlite_of, "journal": journal_of}[request.param](tmp_path)
        return
    pytest.importorskip("psycopg", reason="needs: pip install 'autodistil[postgresql]'")
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl on the PATH")
    with postgresql() as url:
        yield url


@contextmanager
def postgresql():
    """A server that listens on a socket only, whose path must be short; it refuses to run as root."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="autodistil-", dir="/tmp"))
    if user:
        shutil.chown(folder, user)

    def run(*command):
        subprocess.run([*command, "-D", folder / "data"], check=True, user=user, cwd="/", stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-U", "tester", "-A", "trust", "-N")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", folder / "log", "-o", options, "start")
        yield f"postgresql+psycopg://tester@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def open_search(storage):
    """Opens studies that are closed before their storage goes away."""
    with ExitStack() as stack:

        def opened(driver, watch=None, name="run/study"):
            search = Search(PROBLEM, storage, name, name.partition("/")[0], driver, watch or drivers.Watch())
            return stack.enter_context(closing(search))

        yield opened


def loss_of(candidate):
    return 1e6 / candidate.config.encoder_weights


def scorer(calls):
    def score(students):
        for candidate, _ in students:
            calls.append(candidate.id)
            yield Score(loss_of(candidate), (1.0,))

    return score


def trials_of(search, state=optuna.trial.TrialState.COMPLETE):
    return [trial.user_attrs["student"] for trial in search.study.trials if trial.state == state]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["exhaustive", "gp", "nsga2"])
def test_two_drivers_score_the_asked_number_together(open_search, sampler, monkeypatch):
    monkeypatch.setattr(study, "_POLL_S", 0.05)
    monkeypatch.setattr(SAMPLERS[sampler], "batch", {"exhaustive": 3, "gp": 2, "nsga2": 4}[sampler])
    calls, results = [], {}

    def work(driver):
        search = open_search(driver)
        results[driver] = search.run(scorer(calls), sampler, 12, seed=0)

    threads = [threading.Thread(target=work, args=(driver,)) for driver in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results["a"] == results["b"]
    assert len(results["a"]) == len(calls) == len(set(calls)) == 12


def interrupted(open_search, driver, after, trials=12):
    """A driver that stops after some students, in the middle of a batch."""
    search = open_search(driver)
    calls = []

    def stop(student_id, loss):
        if len(calls) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.run(scorer(calls), "exhaustive", trials, seed=0, on_score=stop)
    return calls


def test_what_an_ended_driver_left_is_scored_by_another(open_search, monkeypatch):
    monkeypatch.setattr(study, "_POLL_S", 0.05)
    first, calls = interrupted(open_search, "a", 4), []
    search = open_search("b")
    scores = search.run(scorer(calls), "exhaustive", 12, seed=0)
    assert len(scores) == 12
    assert len(calls) == 8
    assert not set(calls) & set(first)
    assert sorted(trials_of(search)) == sorted(scores)


def test_a_silent_driver_is_taken_for_dead(open_search, monkeypatch):
    monkeypatch.setattr(study, "_POLL_S", 0.01)
    monkeypatch.setattr(drivers, "_LEFT", 5)  # it does not say that it ends
    interrupted(open_search, "a", 4)
    monkeypatch.setattr(drivers, "_LEFT", -1)
    search = open_search("b", drivers.Watch(silence_s=0.1))
    assert len(search.run(scorer([]), "exhaustive", 12, seed=0)) == 12


def test_a_driver_takes_up_what_it_left_behind(open_search):
    first, calls = interrupted(open_search, "a", 4), []
    search = open_search("a")
    scores = search.run(scorer(calls), "exhaustive", 12, seed=0)
    assert len(scores) == 12
    assert len(first + calls) == len({*first, *calls}) == 12
    assert [trial.state for trial in search.study.trials] == [optuna.trial.TrialState.COMPLETE] * 12


def test_runs_in_one_storage_keep_their_scores_apart(open_search):
    open_search("a", name="one/study").run(scorer([]), "exhaustive", 5, seed=0)
    assert len(open_search("a", name="one/other").known) == 5
    assert not open_search("a", name="two/study").known


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("postgresql://me:secret@host/db", "PGPASSWORD"),
        ("oracle://host/db", "allowed: sqlite, postgresql"),
        ("/nowhere/at/all/study.log", "no file in a folder"),
    ],
)
def test_storages_that_are_refused(where, message):
    with pytest.raises(ConfigError, match=message) as caught:
        study_storage(where)
    assert "secret" not in str(caught.value)


def test_a_damaged_journal_is_refused(tmp_path):
    Path(journal_of(tmp_path)).write_text("no journal\n")
    with pytest.raises(RunError, match="cannot be opened"):
        Search(PROBLEM, journal_of(tmp_path), "study")


class FlakyStudy:
    """A study whose storage refuses some writes."""

    def __init__(self, refused):
        self.refused, self.user_attrs, self.asked = refused, {}, 0

    def set_user_attr(self, name, value):
        self.asked += 1
        if self.asked in self.refused:
            raise optuna.exceptions.StorageInternalError("the database is away")
        self.user_attrs[name] = value


def test_a_sign_of_life_that_is_refused_is_said_and_the_next_one_passes(caplog):
    study = FlakyStudy(refused={2, 3})
    with drivers.heartbeat(study, "a", seconds=0.001):
        while study.asked < 5:
            time.sleep(0.001)
        assert study.user_attrs["driver:a"] > 4, "it went on after the refusals"
    assert study.user_attrs["driver:a"] == drivers._LEFT
    assert caplog.text.count("the database is away") == 2
    study = FlakyStudy(refused=range(2, 100_000))
    with pytest.raises(KeyboardInterrupt), drivers.heartbeat(study, "a", seconds=10):
        raise KeyboardInterrupt  # is not hidden by what leaving meets
