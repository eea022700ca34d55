"""Several drivers on one study: as many students as asked, none twice, and those of the dead are scored by others."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import optuna
import pytest

from autodistil.costs import EncoderShape, parse_budget
from autodistil.errors import ConfigError, RunError
from autodistil.spaces import SearchSpace, SubSpace
from autodistil.student_search import drivers, study
from autodistil.student_search.racing import Score
from autodistil.student_search.storage import study_storage
from autodistil.student_search.study import Search, SearchProblem

SHAPE = EncoderShape(vocab_size=1000, other_embedding_rows=66, embedding_size=None, pooler=True)
SPACE = SearchSpace("test", "", (SubSpace("one", (1, 2, 3), (32, 64, 96), None, (16,), (1.0, 2.0, 3.0)),))
PROBLEM = SearchProblem(SPACE, SHAPE, (parse_budget("1TFLOPs"),), 64)


def sqlite_of(folder):
    return f"sqlite:///{folder / 'study.db'}"


def journal_of(folder):
    return str(folder / "study.log")


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def storage(request, tmp_path):
    """A storage of each kind; PostgreSQL in a cluster of its own, on a socket, where its programs are installed."""
    if request.param != "postgresql":
        yield {"sqlite": sqlite_of, "journal": journal_of}[request.param](tmp_path)
        return
    pytest.importorskip("psycopg", reason="needs: pip install 'autodistil[postgresql]'")
    if shutil.which("initdb") is None or os.geteuid() == 0:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl, and a user that is not root")
    cluster, sockets = tmp_path / "postgresql", Path("/tmp") / f"autodistil-{os.getpid()}"
    sockets.mkdir(exist_ok=True)  # the path of a socket must be short
    subprocess.run(["initdb", "-D", cluster, "-U", "tester", "-A", "trust", "-N"], check=True, capture_output=True)
    options = f"-c listen_addresses='' -c unix_socket_directories={sockets} -c fsync=off"
    subprocess.run(
        ["pg_ctl", "-D", cluster, "-w", "-l", tmp_path / "log", "-o", options, "start"], check=True, capture_output=True
    )
    try:
        yield f"postgresql+psycopg://tester@/postgres?host={sockets}"
    finally:
        subprocess.run(["pg_ctl", "-D", cluster, "-m", "immediate", "stop"], check=True, capture_output=True)
        shutil.rmtree(sockets)


def loss_of(candidate):
    return 1e6 / candidate.config.encoder_weights


def scorer(calls, lock=None):
    def score(students):
        for candidate, _ in students:
            calls.append(candidate.id)
            yield Score(loss_of(candidate), (1.0,))

    return score


def trials_of(search, state=optuna.trial.TrialState.COMPLETE):
    return [trial.user_attrs["student"] for trial in search.study.trials if trial.state == state]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["exhaustive", "gp", "nsga2"])
def test_two_drivers_score_the_asked_number_together(storage, sampler, monkeypatch):
    monkeypatch.setattr(study, "_POLL_S", 0.05)
    monkeypatch.setattr(study, "_BATCHES", {"exhaustive": 3, "gp": 2, "nsga2": 4})
    calls, results = [], {}

    def work(driver):
        search = Search(PROBLEM, storage, "run/study", "run", driver)
        results[driver] = search.run(scorer(calls), sampler, 12, seed=0)

    threads = [threading.Thread(target=work, args=(driver,)) for driver in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results["a"] == results["b"]
    assert len(results["a"]) == len(calls) == len(set(calls)) == 12


def interrupted(storage, driver, after, trials=12):
    """A driver that stops after some students, in the middle of a batch."""
    search = Search(PROBLEM, storage, "run/study", "run", driver)
    calls = []

    def stop(student_id, loss):
        if len(calls) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.run(scorer(calls), "exhaustive", trials, seed=0, on_score=stop)
    return calls


def test_what_an_ended_driver_left_is_scored_by_another(storage, monkeypatch):
    monkeypatch.setattr(study, "_POLL_S", 0.05)
    first, calls = interrupted(storage, "a", 4), []
    search = Search(PROBLEM, storage, "run/study", "run", "b")
    scores = search.run(scorer(calls), "exhaustive", 12, seed=0)
    assert len(scores) == 12
    assert len(calls) == 8
    assert not set(calls) & set(first)
    assert sorted(trials_of(search)) == sorted(scores)


def test_a_silent_driver_is_taken_for_dead(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "_POLL_S", 0.01)
    monkeypatch.setattr(drivers, "_LEFT", 5)  # it does not say that it ends
    interrupted(journal_of(tmp_path), "a", 4)
    monkeypatch.setattr(drivers, "_LEFT", -1)
    search = Search(PROBLEM, journal_of(tmp_path), "run/study", "run", "b", drivers.Watch(silence_s=0.1))
    assert len(search.run(scorer([]), "exhaustive", 12, seed=0)) == 12


def test_a_driver_takes_up_what_it_left_behind(storage):
    first, calls = interrupted(storage, "a", 4), []
    search = Search(PROBLEM, storage, "run/study", "run", "a")
    scores = search.run(scorer(calls), "exhaustive", 12, seed=0)
    assert len(scores) == 12
    assert len(first + calls) == len({*first, *calls}) == 12
    assert [trial.state for trial in search.study.trials] == [optuna.trial.TrialState.COMPLETE] * 12


def test_runs_in_one_storage_keep_their_scores_apart(tmp_path):
    where = journal_of(tmp_path)
    Search(PROBLEM, where, "one/study", "one", "a").run(scorer([]), "exhaustive", 5, seed=0)
    assert len(Search(PROBLEM, where, "one/other", "one", "a").known) == 5
    assert not Search(PROBLEM, where, "two/study", "two", "a").known


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
