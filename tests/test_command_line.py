"""The command as a user meets it: exit codes, the one line on stderr, nothing written, nothing slow imported."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from src.runtime import project
from src.sweeps.jobs.ledger import Ledger

ROOT = project.CODE
HEAVY = ("torch", "mlflow", "pytorch_lightning", "numpy", "sklearn", "matplotlib", "optuna")

# what a run may end with, behind the real front door: the name picks the ending
ENDINGS = textwrap.dedent(
    """
    import os, sys, time
    from src.commands import command
    from src.errors import Interrupted, RunFailed, UserError

    def train(config):
        print("job", config.seed, os.environ.get("LABBOOK_SWEEP_ID"), *sys.argv[1:], flush=True)
        name = config.name
        if name == "user": raise UserError("data: line 3 has 4 columns, the header has 5")
        if name == "failed": raise RunFailed("the loss is NaN at step 3")
        if name == "bug": {}["key"]
        if name == "exit": sys.exit(0)
        if name == "interrupted": raise Interrupted(15)
        if name == "wrapped":
            from hydra.errors import InstantiationException
            raise InstantiationException("Error in call to target") from UserError("model.depth=0 must be at least 1")
        if name == "sleeps": time.sleep(60)

    sys.exit(command("train", body=train).run(sys.argv[1:]))
    """
)


QUICK = ("-m", "hydra.launcher.preload=[]", "n_jobs=1")  # a sweep whose jobs import nothing


def start(*arguments: str, cwd: Path, **options) -> subprocess.Popen:
    store = f"sqlite:///{cwd.parent}/{cwd.name}-store/mlflow.db"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": store} | options.pop("env", {})
    for key in ("LABBOOK_SWEEP_ID", "HYDRA_FULL_ERROR"):
        environment.pop(key, None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=environment, text=True, **pipes)


def run(*arguments: str, cwd: Path, **options) -> tuple[int, str, str]:
    process = start(*arguments, cwd=cwd, **options)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def loaded(errors: str) -> set[str]:
    """Top-level packages that `-X importtime` reports on stderr."""
    lines = [line for line in errors.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--help"], 0, "keras_example, recommendation/movielens_ranking"),
        (["--cfg", "job"], 0, "_target_: src.models.CNN"),
        (["--info", "defaults"], 0, "trainer/default"),
        (["--version"], 0, "labbook "),
        (["model.activation=rellu"], 2, "error: model.activation: rellu is not known (did you mean relu?)"),
        (["trainer.max_epochs=ten", "optimizer=sgd"], 2, "error: trainer.max_epochs: expects an integer or null"),
        (["-m", "model=fnn,cn"], 2, "error: model=cn: there is no such model (did you mean cnn?)"),
        (["seed=1", "-m", "model.dropout=0.1,x"], 2, "error: model.dropout: expects a number, got 'x'"),
        (["--multirn"], 2, "error: unknown flag --multirn (did you mean --multirun?)"),
    ],
)
def test_answers_come_quickly_and_leave_nothing(tmp_path, arguments, code, expected):
    before = os.times()
    returned, output, errors = run("-X", "importtime", "-m", "src.train", *arguments, cwd=tmp_path)
    after = os.times()
    assert returned == code
    assert not loaded(errors) & set(HEAVY)
    said = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert expected in (output if code == 0 else said[0])
    assert len(said) == (0 if code == 0 else 1)
    assert not list(tmp_path.iterdir())
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 1.5  # about 0.4 s; the limit leaves room for a slower machine and for -X importtime


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("fine", 0, ""),
        ("user", 2, "error: data: line 3 has 4 columns, the header has 5"),
        ("wrapped", 2, "error: model.depth=0 must be at least 1"),
        ("failed", 1, "error: the loss is NaN at step 3"),
        ("bug", 1, "error: KeyError: 'key' ["),
        ("exit", 1, "error: the run was ended by sys.exit(0)"),
        ("interrupted", 143, "stopped by SIGTERM"),
    ],
)
def test_exit_codes_tell_the_truth(tmp_path, name, code, expected):
    script = tmp_path / "ends.py"
    script.write_text(ENDINGS)
    returned, output, errors = run(str(script), f"name={name}", cwd=tmp_path)
    assert returned == code
    assert output.startswith("job 0 None")
    assert errors.startswith(expected) and len(errors.splitlines()) == bool(expected)
    if name == "bug":
        assert "ends.py:12; debug=true shows the traceback]" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["ends.py"]


def test_a_misspelt_debug_gets_one_line(tmp_path):
    returned, _, errors = run("-m", "src.train", "debug=overfti", cwd=tmp_path)
    assert returned == 2
    assert errors == "error: debug=overfti: there is no such debug (did you mean overfit?)\n"


def test_debug_shows_the_traceback(tmp_path):
    script = tmp_path / "ends.py"
    script.write_text(ENDINGS)
    returned, _, errors = run(str(script), "name=user", "debug=true", cwd=tmp_path)
    assert returned == 2 and "Traceback" in errors and "ends.py" in errors
    returned, _, errors = run(str(script), "model.hiden=1", "debug=true", cwd=tmp_path)
    assert returned == 2 and "Traceback" in errors


def jobs(cwd: Path) -> list[list[str]]:
    """The words that each job of the newest sweep in a place printed."""
    ledger = Ledger.all(cwd.parent / f"{cwd.name}-store" / "mlruns")[0]
    return [job.output.read_text().split() for job in ledger.jobs]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_its_code(tmp_path, signum, code):
    script = tmp_path / "ends.py"
    script.write_text(ENDINGS)
    process = start(str(script), "name=sleeps", cwd=tmp_path)
    assert process.stdout.readline().startswith("job")
    process.send_signal(signum)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert output == ""
    assert errors == f"stopped by {signum.name}\n"


def test_sigterm_during_composition_is_no_success(tmp_path):
    process = start("-m", "src.train", "-m", "seed=range(1,500)", cwd=tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1.5)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode in (143, -signal.SIGTERM)


def test_a_sweep_goes_on_after_a_failed_job_and_names_it(tmp_path):
    script = tmp_path / "ends.py"
    script.write_text(ENDINGS)
    returned, output, errors = run(str(script), *QUICK, "name=bug,fine", "seed=1,2", cwd=tmp_path)
    printed = jobs(tmp_path)
    assert returned == 1
    assert [job[1] for job in printed] == ["1", "2", "1", "2"]
    assert len({job[2] for job in printed}) == 1 and printed[0][2] != "None"
    folder, attempt = printed[3][3:]  # what a job starts is this job, not the sweep
    assert folder.endswith("/jobs/0003") and attempt == "1"
    assert "Traceback" in printed[0] and "Traceback" not in errors
    reason = "(KeyError: 'key' [ends.py:12])"
    wanted = f"error: 2 of the sweep's 4 jobs did not finish: name=bug seed=1 {reason}; name=bug seed=2 {reason}"
    assert re.sub(r"\[\S*/", "[", errors.splitlines()[-1]) == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["ends.py"]


def test_a_recipe_with_sweep_parameters_needs_the_flag(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "widths.yaml").write_text("# sweep\nhydra:\n  sweeper:\n    params: {seed: '1,2'}\n")
    script = tmp_path / "ends.py"
    swap = f"from src.config import recipes\nrecipes.EXPERIMENTS = recipes.Path({str(tmp_path / 'experiments')!r})\n"
    script.write_text(swap + ENDINGS)
    returned, output, errors = run(str(script), "experiment=widths", cwd=tmp_path)
    assert (returned, output) == (2, "")
    assert errors == "error: hydra.sweeper.params: this experiment is a sweep, run it with -m\n"
    returned, output, _ = run(str(script), "experiment=widths", *QUICK, cwd=tmp_path)
    assert returned == 0 and [job[1] for job in jobs(tmp_path)] == ["1", "2"]


def test_a_closed_pipe_is_silent(tmp_path):
    command = f"{sys.executable} -m src.train --cfg job | head -1"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1


def test_tab_completion_in_bash(tmp_path):
    # the console script as an installation writes it
    script = tmp_path / "labbook-train"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom src.train import main\nsys.exit(main())\n")
    script.chmod(0o755)
    lines = ["mod", "model=", "experiment=", "debug=true model=fnn model.wid", "name=("]
    asks = "\n".join(
        f'COMP_LINE="labbook-train {line}"; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE); '
        "COMP_CWORD=$((${#COMP_WORDS[@]}-1)); COMPREPLY=(); hydra_bash_completion; "
        'echo "> ${COMPREPLY[*]}"'
        for line in (text.replace("(", "\\(") if "(" in text else text for text in lines)
    )
    program = f'eval "$(labbook-train -sc install=bash)"\n{asks}\n'
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    answers = [line.removeprefix("> ").split() for line in done.stdout.splitlines()]
    assert "model=" in answers[0]
    assert {"model=cnn", "model=fnn", "model=gpt"} <= set(answers[1])
    assert "experiment=keras_example" in answers[2]
    assert answers[3] == ["model.width="]
    assert done.stderr == ""
