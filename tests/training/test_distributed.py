"""One run of several processes that torchrun has started: the same bits as when Lightning starts them, and one run."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from tests.conftest import Lab
from tests.sweeps.test_sweeps import SMALL, Sweep

RUN = [*SMALL, "threads=1", "trainer=ddp_cpu"]


@pytest.fixture
def sweep(lab: Lab) -> Sweep:
    return Sweep(lab)


def torchrun(sweep: Sweep, *options: str, arguments: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "src.train", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=sweep.lab.folder, env=sweep.env, text=True, start_new_session=True, **pipes)


def ended(*processes: subprocess.Popen) -> str:
    """What they said on stderr."""
    return "".join(process.communicate(timeout=200)[1] for process in processes)


@pytest.mark.slow
def test_two_machines_of_torchrun_make_one_run_with_the_bits_of_two_processes_here(sweep: Sweep) -> None:
    code, _, err = sweep.run(*RUN)
    assert code == 0, err
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={port}"]
    arguments = [*RUN, "trainer.num_nodes=2", "trainer.devices=1"]
    nodes = [torchrun(sweep, *options, f"--node_rank={rank}", arguments=arguments) for rank in (1, 0)]
    err = ended(*nodes)
    assert [node.returncode for node in nodes] == [0, 0], err
    one, other = sweep.lab.runs()
    assert sweep.statuses() == {"FINISHED": 2} and sweep.lab.points(one.info.run_id) == sweep.lab.points(
        other.info.run_id
    )
    assert one.data.tags["labbook.device"] == other.data.tags["labbook.device"] == "2 x cpu"


@pytest.mark.slow
def test_a_run_of_torchrun_is_stopped_and_gone_on_with(sweep: Sweep) -> None:
    options, arguments = ["--standalone", "--nproc_per_node=2"], [*RUN, "trainer.max_epochs=150"]  # some seconds
    process = torchrun(sweep, *options, arguments=[*arguments, "checkpoint.every_n_steps=2"])
    while not list((sweep.lab.folder / "mlruns").glob("*/*/artifacts/checkpoints/last.ckpt")):
        assert process.poll() is None, ended(process)
    process.send_signal(signal.SIGTERM)
    err = ended(process)
    (run,) = sweep.lab.runs()
    assert run.info.status == "KILLED" and f"resume={run.info.run_id}" in err
    err = ended(torchrun(sweep, *options, arguments=[f"resume={run.info.run_id}"]))
    assert sweep.statuses() == {"FINISHED": 1}, err
    code, _, err = sweep.run(*arguments)
    assert code == 0, err
    fresh = sweep.lab.runs()[0].info.run_id
    assert sweep.lab.points(fresh) == sweep.lab.points(run.info.run_id)
