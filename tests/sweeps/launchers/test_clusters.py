"""Sweeps on clusters that are really there: Ray's with two nodes, and SLURM's, each on this machine."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from src.errors import UserError
from src.sweeps.launchers import ray
from src.sweeps.launchers.remote import WorkerMonitor
from tests.conftest import Lab
from tests.sweeps.test_sweeps import SMALL, Sweep, made

TROUBLED = ["-m", *SMALL, "model._target_=trouble.Trouble", "threads=1", "test=false", "checkpoint.every_n_steps=2"]
# or Ray makes one in the home folder
RAY_ENV = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
LONG = [*TROUBLED, "trainer.max_epochs=3"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def working(sweep: Sweep, count: int) -> bool:
    """Whether so many jobs have a run and are training it."""
    return sum(job.state.status == "running" and job.state.run is not None for job in sweep.jobs()) >= count


def checkpointed(sweep: Sweep) -> list[Path]:
    return list((sweep.lab.folder / "mlruns").glob("*/*/artifacts/checkpoints/last.ckpt"))


def outputs(sweep: Sweep) -> str:
    return "\n".join(job.output.read_text() for job in sweep.jobs() if job.output.exists())


@pytest.fixture
def sweep(lab: Lab) -> Sweep:
    found = Sweep(lab)
    found.env |= RAY_ENV
    return found


def test_an_attempt_that_another_launcher_has_overtaken_does_nothing(tmp_path: Path) -> None:
    (job,) = made(tmp_path, 1).jobs
    job.update(attempts=1)
    late = WorkerMonitor(job)
    job.update(attempts=2)
    assert late() == 0
    assert job.output.read_text() == "" and (job.read().state.status, job.state.attempts) == ("pending", 2)


# ray -----------------------------------------------------------------------------------------------------------------

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: the extra ray")


class RayCluster:
    """`ray start` twice: a head and a second node, one job's cores each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        self.nodes: list[subprocess.Popen] = []

    def start(self) -> None:
        self._start("--head", f"--port={self.address.rpartition(':')[2]}", f"--temp-dir={self.folder}")
        self._start(f"--address={self.address}")

    def _start(self, *options: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--num-cpus=1", "--block"]
        command += ["--object-store-memory=100000000", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        if "--head" in options:
            command.append("--include-dashboard=false")
        log = self.folder / f"{'head' if '--head' in options else 'second'}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command, env=os.environ | RAY_ENV, stdout=output, stderr=output, start_new_session=True
            )
        self.nodes.append(process)
        end = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)

    def cut(self) -> None:
        """Ends the node that was started last, as a power cut does."""
        process = self.nodes.pop()
        if process.poll() is not None:
            return
        for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            child.kill()
        process.wait(60)


@pytest.fixture
def ray_cluster() -> Iterator[RayCluster]:
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = RayCluster(Path(folder))  # not pytest's folder: a socket's path has to be short
        try:
            cluster.start()
            yield cluster
        finally:
            while cluster.nodes:
                cluster.cut()


@needs_ray
@pytest.mark.slow
def test_a_lost_node_of_ray_costs_its_job_only_which_goes_on_elsewhere(sweep: Sweep, ray_cluster: RayCluster) -> None:
    command = [*LONG, "hydra/launcher=ray", f"hydra.launcher.address={ray_cluster.address}"]
    process = sweep.start(*command, "seed=1,2,3", "on_error=retry", STEP_SECONDS="0.5")
    sweep.until(process, lambda counts: working(sweep, 2) and len(checkpointed(sweep)) == 2)
    ray_cluster.cut()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err + outputs(sweep)
    assert sweep.counts() == {"finished": 3} and sweep.statuses() == {"FINISHED": 3}
    assert sorted(job.state.attempts for job in sweep.jobs()) == [1, 1, 2]
    (resumed,) = [run for run in sweep.lab.runs() if "labbook.resumes" in run.data.tags]
    assert resumed.data.tags["labbook.resumed_from"] != "step 0"

    # a job that is killed and one that raises fail alone; the rest of the cluster is still there
    widths = [*TROUBLED, *command[-2:], "model.width=3,4,11"]
    code, out, err = sweep.run(*widths)
    assert code == 1, err
    assert [job.state.status for job in sweep.jobs()] == ["failed", "finished", "killed"]
    assert "model.width=11 (killed by SIGKILL" in err
    (sweep.lab.folder / "repaired").touch()
    code, out, err = sweep.run("resume", "last", entry="sweep")
    assert code == 0, err + outputs(sweep)
    assert "1 finished, 1 to resume, 1 to run" in out
    assert sweep.statuses() == {"FINISHED": 6, "FAILED": 1}
    code, _, err = sweep.run(*SMALL, "-m", *command[-2:], "seed=4", "threads=2")
    assert code == 2 and "no machine of the Ray cluster has what a job takes (CPU=2)" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
@needs_ray
def test_a_sweep_with_a_ray_cluster_of_its_own_is_stopped_cleanly_and_survives_a_kill(sweep: Sweep) -> None:
    command = [*LONG, "hydra/launcher=ray", "seed=1,2", "n_jobs=2"]
    process = sweep.start(*command, STEP_SECONDS="0.5")
    sweep.until(process, lambda counts: working(sweep, 2))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 143 and err.splitlines()[-1] == "stopped by SIGTERM", err
    assert sweep.counts() == {"killed": 2} and sweep.statuses() == {"KILLED": 2}
    process = sweep.start(*command, STEP_SECONDS="0.5")
    sweep.until(process, lambda counts: working(sweep, 2))
    process.kill()
    process.communicate()
    code, out, err = sweep.run(*command)
    assert code == 0, err + outputs(sweep)
    assert "2 to resume" in out and sweep.statuses() == {"FINISHED": 2}


def test_a_ray_cluster_that_is_not_there_is_one_line(sweep: Sweep, monkeypatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"address={address} cannot be reached \(no answer\): `ray start"):
            ray.reach(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=rf"address=auto \({address}\) cannot be reached \(.*refused"):
        ray.reach("auto")
    if importlib.util.find_spec("ray"):
        code, _, err = sweep.run("-m", *SMALL, "hydra/launcher=ray", f"hydra.launcher.address={address}")
        assert code == 2 and len(err.splitlines()) == 1 and f"address={address} cannot be reached" in err


def test_a_missing_package_is_one_line(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="^hydra/launcher=ray needs ray: pip install ray$"):
        ray.connect("local")


# slurm ---------------------------------------------------------------------------------------------------------------

SLURM_CONF = """
ClusterName=labbook
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """slurmctld and slurmd: one node, and no authentication, so that nothing else has to run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.env = folder, {"SLURM_CONF": str(folder / "slurm.conf")}
        host = socket.gethostname().partition(".")[0]
        ports = {"controller": free_port(), "daemon": free_port()}
        (folder / "slurm.conf").write_text(SLURM_CONF.format(host=host, folder=folder, cores=os.cpu_count(), **ports))
        for name in ("state", "spool"):
            (folder / name).mkdir()
        self.daemons = [self._start("slurmctld", "-D", "-i"), self._start("slurmd", "-D")]
        end = time.monotonic() + 60
        while (state := self.answer("sinfo", "-h", "-o", "%T").strip()) != "idle":
            logs = "\n".join(path.read_text() for path in folder.glob("*.log"))
            assert time.monotonic() < end, f"{state}: {logs}"
            time.sleep(0.2)

    def _start(self, *command: str) -> subprocess.Popen:
        with (self.folder / f"{command[0]}.out").open("w") as output:
            return subprocess.Popen(
                command, env=os.environ | self.env, stdout=output, stderr=output, start_new_session=True
            )

    def answer(self, *command: str) -> str:
        return subprocess.run(command, env=os.environ | self.env, capture_output=True, text=True).stdout

    def stop(self) -> None:
        self.answer("scancel", "--me")
        end = time.monotonic() + 60
        while self.answer("squeue", "-h").strip() and time.monotonic() < end:  # or its steps outlive the daemons
            time.sleep(0.2)
        for daemon in reversed(self.daemons):
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()


@pytest.fixture(scope="module")
def slurm_cluster(tmp_path_factory) -> Iterator[SlurmCluster]:
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed: the extra slurm")
    if shutil.which("slurmctld") is None or shutil.which("slurmd") is None:
        pytest.skip("no SLURM here: apt-get install slurm-wlm")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons are started as root")
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    yield cluster
    cluster.stop()


@pytest.fixture
def slurm(sweep: Sweep, slurm_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    sweep.env |= slurm_cluster.env
    yield slurm_cluster
    slurm_cluster.answer("scancel", "--me")


def places(sweep: Sweep) -> list[str]:
    return [(job.folder / "slurm.txt").read_text() for job in sweep.jobs()]


@pytest.mark.slow
def test_a_grid_is_an_array_of_slurm_in_which_jobs_fail_alone(sweep: Sweep, slurm: SlurmCluster) -> None:
    command = [*TROUBLED, "hydra/launcher=slurm", "model.width=3,4,11"]
    code, out, err = sweep.run(*command)
    assert code == 1, err
    assert [job.state.status for job in sweep.jobs()] == ["failed", "finished", "killed"], outputs(sweep)
    assert "model.width=3 (ValueError: a width of three" in err and "model.width=11 (killed by SIGKILL" in err
    array, _, _ = places(sweep)[0].partition("_")
    assert places(sweep) == [f"{array}_{i}" for i in range(3)]
    (sweep.lab.folder / "repaired").touch()
    code, out, err = sweep.run("resume", "last", entry="sweep")
    assert code == 0, err + outputs(sweep)
    assert "1 finished, 1 to resume, 1 to run" in out
    assert sweep.statuses() == {"FINISHED": 3, "FAILED": 1}


@pytest.mark.slow
def test_what_slurm_preempts_comes_back_and_a_dead_launcher_is_replaced(sweep: Sweep, slurm: SlurmCluster) -> None:
    command = [*LONG, "hydra/launcher=slurm", "seed=1,2"]
    process = sweep.start(*command, STEP_SECONDS="0.5")
    sweep.until(process, lambda counts: working(sweep, 2) and len(checkpointed(sweep)) == 2)
    process.kill()
    process.communicate()
    slurm.answer("scancel", "--signal=USR2", places(sweep)[0])  # as at the end of its time, or before a preemption
    code, out, err = sweep.run(*command)
    assert code == 0, err + outputs(sweep)
    assert "2 still running, 0 to run" in out
    assert [job.state.attempts for job in sweep.jobs()] == [1, 1]  # none was begun twice
    assert sweep.statuses() == {"FINISHED": 2}
    resumes = {run.data.tags["labbook.seed"]: run.data.tags.get("labbook.resumes") for run in sweep.lab.runs()}
    assert resumes == {"1": "1", "2": None}


def test_a_sweep_on_slurm_is_cancelled_with_and_without_its_launcher(sweep: Sweep, slurm: SlurmCluster) -> None:
    command = [*LONG, "hydra/launcher=slurm", f"seed=range(0,{os.cpu_count() + 1})"]  # the last one waits
    process = sweep.start(*command, STEP_SECONDS="0.5")
    sweep.until(process, lambda counts: working(sweep, os.cpu_count()))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert sweep.counts() == {"killed": os.cpu_count() + 1}
    assert sweep.statuses() == {"KILLED": os.cpu_count()}
    process = sweep.start(*command, STEP_SECONDS="0.5")
    sweep.until(process, lambda counts: working(sweep, os.cpu_count()))
    process.kill()
    process.communicate()
    code, _, err = sweep.run("cancel", "last", entry="sweep")
    assert code == 0, err
    assert sweep.counts() == {"killed": os.cpu_count() + 1}
    assert sweep.statuses() == {"KILLED": os.cpu_count()}
    code, _, err = sweep.run("cancel", "last", entry="sweep")
    assert code == 2 and "is not running: nothing to cancel" in err


def test_what_slurm_cannot_do_is_one_line(sweep: Sweep, slurm: SlurmCluster) -> None:
    cases = (
        (["hydra.launcher.partition=none"], {}, "hydra.launcher.partition=none: SLURM has none of that name"),
        (["+hydra.launcher.additional.mem=lots"], {}, "SLURM refused the jobs: sbatch: error: "),
        (["jobs_per_gpu=2"], {}, "jobs_per_gpu=2: SLURM gives a job whole GPUs"),
        ([], {"PATH": str(sweep.lab.folder)}, "hydra/launcher=slurm needs SLURM's commands"),
    )
    for seed, (options, env, message) in enumerate(cases):
        code, _, err = sweep.run("-m", *SMALL, "hydra/launcher=slurm", f"seed={seed}", *options, **env)
        assert code == 2 and err.startswith(f"error: {message}") and len(err.splitlines()) == 1, err


@pytest.mark.slow
def test_the_processes_of_a_job_that_slurm_starts_are_one_run(sweep: Sweep, slurm: SlurmCluster) -> None:
    command = ["-m", *SMALL, "trainer=ddp_cpu", "seed=1", "threads=1"]
    code, _, err = sweep.run(*command, "hydra/launcher=slurm", "hydra.launcher.tasks_per_node=2")
    assert code == 0, err + outputs(sweep)
    code, _, err = sweep.run(*command, "force=true")  # where Lightning starts the second one
    assert code == 0, err + outputs(sweep)
    one, other = sweep.lab.runs()
    assert sweep.statuses() == {"FINISHED": 2}
    assert sweep.lab.points(one.info.run_id) == sweep.lab.points(other.info.run_id)
