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
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from omegaconf.base import Node

from src.config.cli import Command
from src.errors import Interrupted
from src.runtime import project
from src.sweeps.jobs.ledger import Ledger
from tests import process as processes

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


def surroundings(cwd: Path) -> dict[str, str]:
    store = f"sqlite:///{cwd.parent}/{cwd.name}-store/mlflow.db"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": store}
    for key in ("LABBOOK_SWEEP_ID", "HYDRA_FULL_ERROR"):
        environment.pop(key, None)
    return environment


def start(*arguments: str, cwd: Path) -> subprocess.Popen:
    """Python, from nothing."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=surroundings(cwd), text=True, **pipes)


def run(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    process = start(*arguments, cwd=cwd)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


# `python FILE ARGUMENTS`
FILE = """
import runpy, sys
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_forked(script: Path, *arguments: str, cwd: Path) -> tuple[int, str, str]:
    """How a script ended whose process has imported all of src."""
    process = processes.program(FILE, str(script), *arguments, env=surroundings(cwd), cwd=cwd)
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
    returned, output, errors = run_forked(script, f"name={name}", cwd=tmp_path)
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
    returned, _, errors = run_forked(script, "model.hiden=1", "debug=true", cwd=tmp_path)
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


def test_a_command_line_is_composed_once(monkeypatch, tmp_path):
    original, composed, ran = ConfigLoaderImpl.load_configuration, [], []

    def load_configuration(*arguments, **options):
        composed.append(options)
        return original(*arguments, **options)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", load_configuration)
    monkeypatch.chdir(tmp_path)
    command = Command("train", lambda config: ran.append(HydraConfig.get().overrides) or config)
    assert command.run(["model=fnn", "data=iris"]) == 0
    assert len(composed) == len(ran) == 1
    assert (ran[0].task, ran[0].hydra) == (["model=fnn", "data=iris"], ["hydra.mode=RUN"])


def test_a_signal_that_a_library_hides_on_its_way_out_is_seen(monkeypatch, capsys):
    original, interrupted = Node._key, []

    def key(node):
        if not interrupted and sys._getframe(1).f_code.co_name == "_set_item_impl":
            interrupted.append(node)
            raise Interrupted(signal.SIGTERM)  # where the signal comes between two lines of OmegaConf's
        return original(node)

    monkeypatch.setattr(Node, "_key", key)
    ran = []
    assert Command("train", ran.append).run(["model=fnn", "data=iris"]) == 143
    assert interrupted and not ran
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


def test_a_sweep_goes_on_after_a_failed_job_and_names_it(tmp_path):
    script = tmp_path / "ends.py"
    script.write_text(ENDINGS)
    returned, _, errors = run(str(script), *QUICK, "name=bug,fine", "seed=1,2", cwd=tmp_path)
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
    swap = f"from src.config import recipes\nrecipes.RECIPES = (recipes.Path({str(tmp_path / 'experiments')!r}),)\n"
    script.write_text(swap + ENDINGS)
    returned, output, errors = run_forked(script, "experiment=widths", cwd=tmp_path)
    assert (returned, output) == (2, "")
    assert errors == "error: hydra.sweeper.params: this experiment is a sweep, run it with -m\n"
    returned, output, _ = run(str(script), "experiment=widths", *QUICK, cwd=tmp_path)
    assert returned == 0 and [job[1] for job in jobs(tmp_path)] == ["1", "2"]


def test_a_closed_pipe_is_silent(tmp_path):
    command = f"{sys.executable} -m src.train --cfg job | head -1"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1


def installed(folder: Path, name: str, module: str) -> dict[str, str]:
    """The environment in which a console script of the project is found, written as an installation writes it."""
    script = folder / name
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{folder}:{os.environ['PATH']}"}


def completions(folder: Path, environment: dict[str, str], script: str, lines: list[str]) -> list[list[str]]:
    """What bash offers for each beginning of a command line."""
    asks = "\n".join(
        f'COMP_LINE="{script} {line}"; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE); '
        "COMP_CWORD=$((${#COMP_WORDS[@]}-1)); COMPREPLY=(); hydra_bash_completion; "
        'echo "> ${COMPREPLY[*]}"'
        for line in (text.replace("(", "\\(") if "(" in text else text for text in lines)
    )
    program = f'eval "$({script} -sc install=bash)"\n{asks}\n'
    done = subprocess.run(["bash", "-c", program], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return [line.removeprefix("> ").split() for line in done.stdout.splitlines()]


def test_tab_completion_in_bash(tmp_path):
    environment = installed(tmp_path, "labbook-train", "src.train")
    lines = ["mod", "model=", "experiment=", "debug=true model=fnn model.wid", "name=("]
    answers = completions(tmp_path, environment, "labbook-train", lines)
    assert "model=" in answers[0]
    assert {"model=cnn", "model=fnn", "model=gpt"} <= set(answers[1])
    assert "experiment=keras_example" in answers[2]
    assert answers[3] == ["model.width="]


def test_tab_completion_of_all_commands(tmp_path):
    environment = installed(tmp_path, "labbook", "src.__main__")
    lines = ["re", "train model=", "train model=fnn model.wid", "evaluate spl", "no_such x"]
    answers = completions(tmp_path, environment, "labbook", lines)
    assert answers[0] == ["rerun", "report"]
    assert {"model=cnn", "model=fnn", "model=gpt"} <= set(answers[1])
    assert answers[2] == ["model.width="]
    assert answers[3] == ["split="]
    assert answers[4] == []


COMMANDS = ("train", "predict", "evaluate", "inspect", "compare", "rerun", "report", "export", "runs", "sweep", "init")


def test_the_script_lists_the_commands_and_starts_each(tmp_path):
    environment, place = installed(tmp_path, "labbook", "src.__main__"), tmp_path / "place"
    place.mkdir()

    def labbook(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["labbook", *arguments], cwd=place, env=environment, capture_output=True, text=True)

    listed = labbook()
    assert listed.returncode == 0 and listed.stdout == labbook("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"^  labbook {name} +\w.{{20,}}$", listed.stdout, re.MULTILINE), name
    wrong = labbook("evaluat", "run=last")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: there is no command evaluat (did you mean evaluate?)\n"
    assert labbook("--version").stdout.startswith("labbook ")
    assert "_target_: src.models.FNN" in labbook("train", "model=fnn", "--cfg", "job").stdout
    misspelt = labbook("train", "model=fn")
    assert misspelt.returncode == 2
    assert misspelt.stderr == "error: model=fn: there is no such model (did you mean fnn?)\n"
    assert not list(place.iterdir())


def test_every_command_is_listed_and_has_its_help(tmp_path):
    returned, output, errors = run("-X", "importtime", "-m", "src", cwd=tmp_path)
    assert returned == 0 and not loaded(errors) & set(HEAVY)
    assert re.findall(r"^  python -m src\.(\w+) ", output, re.MULTILINE) == list(COMMANDS)
    files = {path.stem for path in (ROOT / "src").glob("*.py")}
    assert files - {"__init__", "__main__", "api", "errors"} == set(COMMANDS)
    for name in COMMANDS:
        returned, output, errors = run("-X", "importtime", "-m", f"src.{name}", "--help", cwd=tmp_path)
        assert returned == 0 and len(output.splitlines()) > 3 and not loaded(errors) & set(HEAVY), name


def test_an_old_spelling_is_taken_with_a_note(tmp_path):
    (tmp_path / "experiments").mkdir()
    recipe = tmp_path / "experiments" / "old.yaml"
    recipe.write_text("# old\ntexts: 1\npredict: 4\ndata:\n  unseen_classes: 3\n")
    script = tmp_path / "ends.py"
    swap = f"from src.config import recipes\nrecipes.RECIPES = (recipes.Path({str(tmp_path / 'experiments')!r}),)\n"
    script.write_text(swap + ENDINGS)
    options = ["experiment=old", "pictures=2", "show_predictions=7", "--cfg", "job"]
    returned, output, errors = run_forked(script, *options, cwd=tmp_path)
    assert returned == 0
    found = [line for line in output.splitlines() if line.startswith(("log_", "show_", "  held_out"))]
    # what the command line says in the new spelling wins over the recipe's old one
    assert sorted(found) == ["  held_out_classes: 3", "log_images: 2", "log_texts: 1", "show_predictions: 7"]
    renamed = {
        "pictures": "log_images",
        "predict": "show_predictions",
        "texts": "log_texts",
        "data.unseen_classes": "data.held_out_classes",
    }
    notes = [f"note: {old} is now {new}; the old name is accepted for one release" for old, new in renamed.items()]
    assert sorted(errors.splitlines()) == sorted(notes)
    recipe.write_text("# old\n\npredict: x\n")
    returned, _, errors = run_forked(script, "experiment=old", cwd=tmp_path)
    expected = f"error: show_predictions: expects an integer, got 'x' [{recipe}, line 3]"
    assert (returned, errors.splitlines()[-1]) == (2, expected)


def test_an_installation_works_in_the_folder_that_it_is_started_in(tmp_path):
    """A real wheel, unpacked beside nothing of the checkout."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    site, place = tmp_path / "site", tmp_path / "place"
    place.mkdir()
    made = [*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(made, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, capture_output=True)
    before = {path for path in site.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(site)

    def labbook(*arguments: str, at: str = ".") -> str:
        command = [str(site / "bin" / "labbook"), *arguments]
        done = subprocess.run(command, cwd=place / at, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    options = ["experiment=keras_example", "trainer.max_epochs=1", "tracking.system_metrics=false", "name=first"]
    said = labbook("train", *options).splitlines()
    assert said[-1].startswith(f"mlflow ui --backend-store-uri sqlite:///{place}/mlflow.db, then http://")
    assert "first" in labbook("runs", "list")
    assert "again: labbook rerun run=" in labbook("runs", "show", "last")
    assert f"in {place}/mlruns/" in "".join(labbook("rerun", "run=last", "verify=true").split("\n"))
    assert {path.name for path in place.iterdir()} >= {"mlflow.db", "mlruns"}
    # a project of one's own, whose commit counts; of the installation the version does
    assert "next: cd mylab && labbook train experiment=first" in labbook("init", "mylab")
    git = ["git", "-C", str(place / "mylab"), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    labbook("train", "experiment=first", *options[1:3], at="mylab/tests")
    (place / "mylab" / "mylab" / "models" / "small.py").write_text("gone = True\n")
    again = labbook("rerun", "run=last", "verify=true", at="mylab")
    assert "with the code of commit " in again and "identical: " in again
    after = {path for path in site.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    assert after == before


def test_a_reader_that_closes_the_pipe_ends_a_table_too() -> None:
    """rich ends the program itself there, as if it had failed."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "src.inspect", "data=iris", "output=null"]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
