"""Profiles on a node of a Ray cluster: found by its label, one at a time, errors on one line."""

import pytest

from autodistil.errors import ProfileError
from autodistil.profiling import remote
from autodistil.profiling.latency_table import table_from_dict
from autodistil.profiling.session import Plan

PLAN = Plan(shapes=((1, 8),), memory=False)


def test_a_student_lands_whole_on_the_node(lookup, header, tmp_path):
    files = remote._read(lookup)
    landed = remote._write(lookup, files, tmp_path / "node")
    assert landed.path.read_bytes() == lookup.path.read_bytes()
    assert landed.cases.is_relative_to(tmp_path)
    answer = remote._measure_here(PLAN, [(lookup, files)], header)
    assert len(table_from_dict(answer["table"]).entries) == 1


def test_errors_of_the_node_travel_as_data(lookup, header):
    answer = remote._measure_here(Plan(shapes=((1, 8),), threads=1024), [(lookup, remote._read(lookup))], header)
    assert answer["exit_code"] == 2
    assert "threads: got 1024" in answer["error"]


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_node_is_found_by_its_label(lookup, header):
    import ray

    ray.init(num_cpus=1, resources={"laptop": 1}, include_dashboard=False, log_to_driver=False)
    try:
        session = remote.measure_on("laptop", PLAN, [lookup], header)
        assert len(table_from_dict(session.table).entries) == 1
        with pytest.raises(ProfileError, match=r"got 'ray:server', which no node of the cluster offers"):
            remote.measure_on("server", PLAN, [lookup], header)
        with pytest.raises(ProfileError, match="on laptop: threads: got 1024"):
            remote.measure_on("laptop", Plan(threads=1024), [lookup], header)
    finally:
        ray.shutdown()
