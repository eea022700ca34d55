"""Search on Ray: actors, however many and even killed ones, leave the candidates that one process does, to the byte."""

import shutil
from pathlib import Path

import pytest
from run_helpers import run_options

from autodistil.cluster.ray_session import ray_session
from autodistil.errors import ClusterError
from autodistil.run.run import Run
from autodistil.stages.costing import search_problem
from autodistil.stages.searching import run_search
from autodistil.stages.training import train_missing

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPACE = Path(__file__).parents[2] / "search_spaces" / "smoke.yaml"


@pytest.fixture(scope="module")
def cluster():
    with ray_session():
        from autodistil.cluster import scoring_actors as actors

        yield actors


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quickstart_teacher_dir):
    """A run with trained SuperLMs, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    options = run_options(
        folder, quickstart_teacher_dir, SPACE.read_text(), heldout_sequences=40, train_steps=1, threads=1
    )
    run = Run.open(folder / "run", options)
    train_missing(run, run.inputs.space.sub_spaces, resume=False)
    _ = run.inputs.heldout_texts
    return folder / "run"


def candidates(trained, folder, **options):
    """`candidates.csv` of a search in a copy of the run."""
    shutil.copytree(trained, folder)
    run = Run.open(folder, {"sampler": "nsga2", "trials": 10, **options})
    problem = search_problem(run.inputs, ["1GFLOPs"])
    run_search(run, problem).write(run.folder.candidates_path, run.inputs.ranks_by_perplexity)
    return run.folder.candidates_path.read_bytes()


def test_actors_give_the_candidates_of_one_process(cluster, trained, tmp_path):
    alone = candidates(trained, tmp_path / "alone")
    assert alone.count(b"True") > 0
    for workers in (1, 2):
        assert candidates(trained, tmp_path / str(workers), workers=workers) == alone


def test_a_killed_actor_changes_nothing(cluster, trained, tmp_path, monkeypatch):
    alone = candidates(trained, tmp_path / "alone", sampler="exhaustive", trials=None)
    pool_type = cluster.ScoringPool
    killed, finished = [], pool_type.finished

    def kill_one(pool):
        result = finished(pool)
        if not killed and len(pool.actors) == 2:
            killed.append(pool)
            cluster.ray.kill(pool.actors[-1])
        return result

    monkeypatch.setattr(pool_type, "finished", kill_one)
    found = candidates(trained, tmp_path / "killed", sampler="exhaustive", trials=None, workers=2)
    assert found == alone
    assert killed[0].lost == 1


def test_too_many_lost_actors_end_the_search(cluster, trained, tmp_path, monkeypatch):
    pool_type = cluster.ScoringPool
    finished = pool_type.finished

    def kill_all(pool):
        for actor in pool.actors:
            cluster.ray.kill(actor)
        return finished(pool)

    monkeypatch.setattr(pool_type, "finished", kill_all)
    with pytest.raises(ClusterError, match="lost"):
        candidates(trained, tmp_path / "lost", workers=1, max_failures=0)
    monkeypatch.undo()
    run = Run.open(tmp_path / "lost", {"sampler": "nsga2", "trials": 10})
    problem = search_problem(run.inputs, ["1GFLOPs"])
    ranked = run_search(run, problem)
    assert ranked.frame["loss"].drop(problem.no_gain).count() == 10
