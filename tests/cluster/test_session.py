"""What is refused before anything starts, and that one machine needs no Ray."""

import subprocess
import sys

import pytest

from autodistil.cluster.checkpoint_storage import Storage
from autodistil.cluster.ray_session import Session, check_resources, ray_session
from autodistil.config import RunConfig
from autodistil.errors import ClusterError, ConfigError

SESSION = Session("127.0.0.1:1", None, nodes=1, cpus=8.0, gpus=2.0, embedded=True)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9", "no Ray cluster can be reached at '127.0.0.1:9'"),
        ("no.such.host.invalid:6379", "no Ray cluster can be reached"),
        ("ray://127.0.0.1:10001", "Ray Client, which cannot train"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(address, words):
    with pytest.raises(ClusterError, match=words) as caught, ray_session(address):
        pass
    assert "\n" not in str(caught.value)


def test_a_missing_ray_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"pip install 'ray\[tune\]'"), ray_session():
        pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 9}, "9 workers of 1 CPUs are more than the 8 CPUs of the cluster; allowed here: --workers 8"),
        ({"workers": 3, "cpus_per_worker": 4}, "allowed here: --workers 2 or fewer, or a smaller --cpus-per-worker"),
        ({"workers": 4, "gpus_per_worker": 1.0}, "4 workers of 1 GPUs are more than the 2 GPUs"),
    ],
)
def test_more_workers_than_resources_are_refused(options, words):
    with pytest.raises(ClusterError, match=words):
        check_resources(SESSION, RunConfig(**options))


def test_workers_that_fit_are_fine():
    check_resources(SESSION, RunConfig(workers=4, cpus_per_worker=2, gpus_per_worker=0.5))


@pytest.mark.slow
def test_one_machine_imports_no_ray():
    code = (
        "import sys, autodistil.pipeline, autodistil.cli, autodistil.stages.certifying; sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_local_folder_is_storage(tmp_path, scheme):
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "a.txt").write_text("a")
    place = Storage.of(f"{scheme}{tmp_path}") / "to" / "deep"
    place.upload(tmp_path / "from")
    assert (tmp_path / "to" / "deep" / "a.txt").read_text() == "a"
    (Storage.of(str(tmp_path)) / "to").remove()
    (Storage.of(str(tmp_path)) / "to").remove()
    assert not (tmp_path / "to").exists()


def test_any_file_system_of_fsspec_is_storage(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    place = Storage.of("memory://bucket") / "run"
    place.upload(tmp_path)
    with place.filesystem.open_input_stream(f"{place.path}/a.txt") as file:
        assert file.read() == b"a"


def test_an_unknown_storage_is_refused():
    with pytest.raises(ConfigError, match="storage 'nowhere://x' cannot be used"):
        Storage.of("nowhere://x")


def test_a_storage_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"storage '.*file/in/it' cannot be reached"):
        Storage.reached(str(tmp_path / "file" / "in" / "it"))

    def without_network(uri):
        raise RuntimeError("Unable to locate credentials\nof a provider")

    monkeypatch.setattr(Storage, "of", without_network)
    with pytest.raises(ConfigError, match=r"'s3://x' cannot be reached \(Unable to locate credentials of a provider\)"):
        Storage.reached("s3://x")
