"""Jobs on a Ray cluster, a new one on this machine or one that is there: `hydra/launcher=ray`."""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hydra.types import TaskFunction
from omegaconf import DictConfig
from typing_extensions import override

from src import tracking
from src.errors import UserError
from src.runtime import optional, project
from src.sweeps.jobs.ledger import Job, Ledger
from src.sweeps.launchers.base import LedgerLauncher
from src.sweeps.launchers.executor import Executor, OnError
from src.sweeps.launchers.remote import WorkerMonitor

if TYPE_CHECKING:
    import ray

CURRENT = Path("/tmp/ray/ray_current_cluster")  # where `ray start` leaves its address for address=auto
PORT = 6379
REACH_SECONDS = 3.0
# a client's greeting in HTTP/2, the protocol below gRPC, and its empty frame of settings; a server answers with its own
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
OBJECT_STORE_BYTES = 100_000_000  # nothing goes through it
DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


class Ray(LedgerLauncher):
    """Tasks of a Ray cluster, each of which runs one job.

    Args:
        address: `local` begins a cluster on this machine that ends with the sweep; `auto` takes the one that
            `ray start` began here or that RAY_ADDRESS names; else `host:port` of a cluster's head.
        cpus: of a job whose configuration sets no `threads`.
    """

    def __init__(self, address: str = "local", cpus: int = 1) -> None:
        if cpus < 1:
            raise UserError(f"hydra.launcher.cpus={cpus} must be at least 1")
        self.address, self.cpus = address, cpus

    @override
    def threads(self, jobs: int, config: DictConfig) -> int:
        return config.threads or self.cpus

    @override
    def executor(self, ledger: Ledger, jobs: int, config: DictConfig, task: TaskFunction) -> Executor:
        ray = connect(self.address)
        _check_store(ray, config.tracking)
        trainer = config.get("trainer", {})
        devices = trainer.get("devices", 1)
        devices = devices if isinstance(devices, int) and devices > 0 else 1
        wanted = {"CPU": float((config.threads or ledger.threads) * devices)}
        on_gpu = trainer.get("accelerator", "cpu") in ("auto", "gpu", "cuda")
        if on_gpu and ray.cluster_resources().get("GPU"):
            if config.jobs_per_gpu < 1:
                raise UserError(f"jobs_per_gpu={config.jobs_per_gpu} must be at least 1")
            wanted["GPU"] = devices / config.jobs_per_gpu
        return Tasks(ray, wanted, most=min(jobs, config.n_jobs or jobs), on_error=config.on_error)


class Tasks(Executor):
    """Runs each job by a task, which a cluster begins where there is room for it.

    Args:
        ray: the module, connected.
        wanted: what a job takes of the cluster's resources.
        most: no more than so many jobs at a time.

    Raises:
        UserError: no machine of the cluster has as much as a job takes.
    """

    references: dict[ray.ObjectRef, Job]

    def __init__(self, ray: ModuleType, wanted: Mapping[str, float], *, most: int, on_error: OnError) -> None:
        self.ray, self.wanted, self.most = ray, wanted, most
        super().__init__(self._room(), on_error)
        if not self.places:
            asked = ", ".join(f"{name}={amount:g}" for name, amount in wanted.items())
            raise UserError(f"no machine of the Ray cluster has what a job takes ({asked}): {_machines(ray)}")
        self.references = {}

    @override
    def begin(self, job: Job) -> None:
        task = self.ray.remote(_watch).options(
            num_cpus=self.wanted["CPU"], num_gpus=self.wanted.get("GPU", 0), max_retries=0, name=job.name
        )
        self.references[task.remote(WorkerMonitor(job), dict(os.environ))] = job

    @override
    def wait(self, seconds: float) -> None:
        try:
            self.ray.wait(list(self.references), timeout=seconds)
        except SystemError as error:  # how Cython hands on what a signal's handler raises
            raise error.__cause__ or error from None

    @override
    def collect(self) -> list[int]:
        self.places = max(1, self._room())  # machines come and go
        references = list(self.references)
        ended, _ = self.ray.wait(references, num_returns=len(references), timeout=0) if references else ([], [])
        return [self._reap(reference).number for reference in ended]

    def _reap(self, reference: ray.ObjectRef) -> Job:
        """The job of a task that has ended, with what became of it."""
        job, why = self.references.pop(reference), "it ended without a word"
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            why = type(error).__name__
        if job.read().state.status == "running":
            job.update(status="killed", error=f"lost by Ray: {why}", code=128 + signal.SIGKILL)
        return job

    @override
    def terminate(self) -> None:
        for reference in self.references:
            self.ray.cancel(reference)

    @override
    def kill(self) -> None:
        for reference in self.references:
            self.ray.cancel(reference, force=True)

    def _room(self) -> int:
        """Number of jobs that all living machines have room for, when they do nothing else."""
        room = 0
        for node in _alive(self.ray):
            room += min(math.floor(node["Resources"].get(name, 0) / amount) for name, amount in self.wanted.items())
        return min(room, self.most)


def _watch(monitor: WorkerMonitor, environment: Mapping[str, str]) -> int:
    """The task. Its process's environment is the cluster's; the job's is the launcher's but for what Ray gives out."""
    devices = {name: os.environ[name] for name in DEVICES if name in os.environ}
    return monitor({**os.environ, **environment, **devices})


def connect(address: str) -> ModuleType:
    """Connect Ray to the cluster.

    Raises:
        UserError: Ray is not installed, or no cluster answers there.
    """
    handler = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    optional.require("ray", "pip install ray", for_="hydra/launcher=ray")
    import ray  # noqa: PLC0415 (an extra)

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "critical"}
    if address == "local":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES, "num_cpus": cores}
    else:
        address = reach(address)
    # a worker finds this project by the environment of its cluster's, which need not know it
    known = project.environment(os.environ)
    options["runtime_env"] = {"env_vars": {name: known[name] for name in ("PYTHONPATH", project.VARIABLE)}}
    try:
        ray.init(address, ignore_reinit_error=True, **options)
    except Exception as error:  # noqa: BLE001 (another version, a missing token: each raises its own)
        raise UserError(f"hydra.launcher.address={address}: {str(error).strip().splitlines()[0]}") from None
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process with the code 15
    return ray


def reach(address: str) -> str:
    """Find the address `host:port` of a cluster that answers; Ray itself would try for two minutes.

    Raises:
        UserError: none does.
    """
    asked = address
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or (CURRENT.read_text().strip() if CURRENT.is_file() else "")
        if not address:
            raise UserError("hydra.launcher.address=auto: no Ray cluster here; `ray start --head` begins one")
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host or port, int(port) if host else PORT), REACH_SECONDS) as connection:
            connection.settimeout(REACH_SECONDS)
            connection.sendall(GREETING)
            if connection.recv(9)[3:4] != b"\x04":
                raise OSError("what answers is not Ray")
    except (OSError, ValueError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error
        begin = "`ray start --head` begins a cluster, address=local one for this sweep"
        where = "" if asked == address else f" ({address})"
        raise UserError(f"hydra.launcher.address={asked}{where} cannot be reached ({reason}): {begin}") from None
    return address


def _check_store(ray: ModuleType, config: DictConfig) -> None:
    """Raise UserError where several machines would write to one SQLite file, which it does not survive."""
    hosts = {node["NodeManagerAddress"] for node in _alive(ray)}
    if len(hosts) > 1 and config.get("enabled", True) and not tracking.shared(config.get("uri")):
        raise UserError(
            f"the Ray cluster has {len(hosts)} machines, and an SQLite file takes runs of one only: "
            "start a tracking server and set tracking.uri=http://HOST:5000 (docs/clusters.md)"
        )


def _alive(ray: ModuleType) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _machines(ray: ModuleType) -> str:
    """List the machines, such as `host-1 has CPU=2; host-2 has CPU=8, GPU=1`."""
    shown = []
    for node in _alive(ray):
        has = ", ".join(f"{name}={node['Resources'][name]:g}" for name in ("CPU", "GPU") if name in node["Resources"])
        shown.append(f"{node['NodeManagerHostname']} has {has or 'neither'}")
    return "; ".join(shown)
