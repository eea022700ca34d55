"""A Ray session: an embedded cluster on this machine that listens on loopback only, or one that is there already.

Ray binds to the address that it thinks its node has. There is no public option that makes that the loopback address on
Linux; the switch that spares laptops their firewall's questions does (`RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0`). Token
authentication is Ray's default for clusters that it starts and is left alone.
"""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import ModuleType

from autodistil.config import RunConfig
from autodistil.errors import ClusterError, one_line
from autodistil.utils import Progress, own_sigterm

_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Session:
    """A cluster that this process is connected to."""

    address: str
    """Address of its head, `host:port`."""
    dashboard: str | None
    """Link to Ray's dashboard; None where it is not installed (`pip install 'ray[default]'`)."""
    nodes: int
    cpus: float
    gpus: float
    embedded: bool
    """It was started here and ends with the session."""

    def __str__(self) -> str:
        where = "this machine" if self.embedded else f"{self.address}, {self.nodes} nodes"
        link = f"dashboard: {self.dashboard}" if self.dashboard else "no dashboard (pip install 'ray[default]')"
        return f"Ray: {where}, {self.cpus:g} CPUs, {self.gpus:g} GPUs; {link}"


@contextmanager
def ray_session(address: str | None = None, progress: Progress | None = None) -> Iterator[Session]:
    """Connect to a cluster, or start one that ends with the block; one that is open already is used and left open.

    Args:
        address: `host:port` of a cluster's head, `auto` for the one that this machine belongs to; None to start one.
        progress: told where the work goes.

    Raises:
        ClusterError: Ray is not installed, or there is no cluster at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("ray is not installed; install it with: pip install 'ray[tune]', or leave --workers out")
    import ray

    opened_here = not ray.is_initialized()
    embedded = opened_here and (address or "local") == "local"
    if opened_here:
        with own_sigterm(ray), _loopback_only(ray) if embedded else nullcontext():
            _init(ray, address)
    try:
        session = _describe(ray, embedded)
        if progress is not None:
            progress.say(str(session))
        yield session
    finally:
        if opened_here:
            ray.shutdown()


def check_resources(session: Session, config: RunConfig) -> None:
    """Make sure that the workers of a run fit into the cluster together.

    Args:
        session: an open session.
        config: says how many workers there are and what each needs.

    Raises:
        ClusterError: they need more CPUs or GPUs than there are.
    """
    count = config.workers
    needs = {"CPUs": (config.cpus_per_worker, session.cpus), "GPUs": (config.gpus_per_worker, session.gpus)}
    for name, (each, there) in needs.items():
        if count * each > there:
            raise ClusterError(
                f"{count} workers of {each:g} {name} are more than the {there:g} {name} of the cluster; allowed here: "
                f"--workers {int(there / each)} or fewer, or a smaller --{name.lower()}-per-worker"
            )


@contextmanager
def _loopback_only(ray: ModuleType) -> Iterator[None]:
    """Let a cluster that is started in the block bind to loopback; the switch is read when ray is imported."""
    constants = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _init(ray: ModuleType, address: str | None) -> None:
    if address is not None and address.startswith("ray://"):
        raise ClusterError(
            f"address {address!r} is one of Ray Client, which cannot train; run the command on a node of the cluster "
            "with --address auto (ray job submit does)"
        )
    _knock(address)
    try:
        # "local" also where RAY_ADDRESS is set: a cluster is only used when asked for. One that is started here has a
        # dashboard where that is installed; without, its server is a waste.
        here = (address or "local") == "local"
        dashboard = {"include_dashboard": importlib.util.find_spec("aiohttp_cors") is not None} if here else {}
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **dashboard)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _unreachable(address, error) from error


def _knock(address: str | None) -> None:
    """Fail in seconds where nobody listens; Ray itself would try for minutes and end the process."""
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> ClusterError:
    reason = one_line(error, 160)
    return ClusterError(
        f"no Ray cluster can be reached at {address or 'local'!r} ({reason}); allowed: auto on a node of one, or "
        "host:port of its head; start one with: ray start --head"
    )


def _describe(ray: ModuleType, embedded: bool) -> Session:
    context = ray.get_runtime_context()
    resources = ray.cluster_resources()
    url = ray._private.worker.get_dashboard_url()
    return Session(
        address=context.gcs_address,
        dashboard=f"http://{url}" if url else None,
        nodes=sum(node["Alive"] for node in ray.nodes()),
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        embedded=embedded,
    )
