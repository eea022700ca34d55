"""How many CPUs a process may use: what it is bound to, and what its container gets."""

import os

import pytest
import torch

from autodistil.cli.opening import set_threads
from autodistil.profiling.fingerprint import this_device
from autodistil.utils import usable_cpus

BOUND = 64


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch):
    monkeypatch.setattr(os, "process_cpu_count", lambda: BOUND, raising=False)


def written(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cpus"),
    [
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/", {"cpu.max": "max 100000\n"}, BOUND),
        ("0::/", {}, BOUND),
        ("0::/", {"cpu.max": "nonsense\n"}, BOUND),
        ("0::/slice/job", {"slice/cpu.max": "300000 100000", "slice/job/cpu.max": "max 100000"}, 3),
        ("0::/on/the/host", {"cpu.max": "400000 100000"}, 4),
        ("3:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ("3:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, BOUND),
        ("3:memory:/", {"cpu.max": "200000 100000"}, BOUND),
        ("4:memory:/a\n3:cpu:/\n0::/", {"cpu/cpu.cfs_quota_us": "100", "cpu/cpu.cfs_period_us": "100"}, 1),
    ],
)
def test_a_container_gets_no_more_than_its_share(cgroup, files, cpus, tmp_path):
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert usable_cpus(written(tmp_path, {"proc/self/cgroup": cgroup + "\n", **files})) == cpus


def test_without_cgroups_all_that_it_is_bound_to(tmp_path):
    assert usable_cpus(tmp_path) == BOUND


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells what a process is bound to")
def test_a_bound_process_uses_what_it_is_bound_to(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5})
    assert usable_cpus(tmp_path) == 2


def test_threads_and_fingerprints_follow(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr("autodistil.cli.opening.usable_cpus", lambda: 3)
    monkeypatch.setattr("autodistil.profiling.fingerprint.usable_cpus", lambda: 3)
    set_threads(None)
    set_threads(7)
    assert chosen == [3, 7]
    assert this_device().cores == 3
