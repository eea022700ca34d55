"""A node that goes away takes its workers along: the training ends where it would have, on what is left."""

import threading
import time

import pytest
from cluster_faults import Faults, assert_same_training, with_faults

from autodistil import pipeline
from autodistil.errors import ConfigError
from autodistil.run.run import Run

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]


@pytest.fixture
def cluster():
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_removed_node_is_done_without(cluster, training_options, of_one, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="the cluster has 3 nodes and no storage is given"):
        pipeline.train(Run.open(tmp_path / "run", training_options, {"workers": 2}))
    with_faults(monkeypatch, Faults(tmp_path, waits_at=(0, 3)))

    def remove_node():
        while not (tmp_path / "waiting").exists():
            time.sleep(0.1)
        cluster.remove_node(cluster.workers[0], allow_graceful=False)

    threading.Thread(target=remove_node, daemon=True).start()
    told = []
    run = Run.open(tmp_path / "run", training_options, {"workers": 2, "storage": f"file://{tmp_path}/storage"})
    monkeypatch.setattr(run.progress, "say", told.append)
    pipeline.train(run)
    assert [line.partition(" train ")[0] for line in told if " train " in line] == ["2 workers", "1 workers"]
    assert_same_training(tmp_path / "run", of_one)
    assert not list((tmp_path / "storage").iterdir())
