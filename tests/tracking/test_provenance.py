"""What explains a run: the working tree as a patch that applies, the config's hash, names, and Lightning's logger."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from src.runtime import renames
from src.tracking.provenance import LARGEST_UNTRACKED, config_hash, default_name, flatten, git_state, legal_key, note
from src.tracking.writer.framing import LINE, Decoder, encode


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.py").write_text("a = 1\nb = 2\n")
    (folder / ".gitignore").write_text("ignored/\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_a_page_names_the_code_only_where_there_is_any(repository, tmp_path):
    command = ["python", "-m", "src.train", "name=two words"]
    outside = note("0" * 32, git_state(tmp_path), command, ())
    assert outside.startswith("    python -m src.train 'name=two words'\n\nThe same again") and "commit" not in outside
    inside = note("0" * 32, git_state(repository), command, ())
    commit = git(repository, "rev-parse", "HEAD").strip()
    assert f"at commit `{commit[:12]}`\n\nThe same again" in inside


def test_a_clean_tree_has_no_patch(repository):
    state = git_state(repository)
    assert state.commit == git(repository, "rev-parse", "HEAD").strip()
    assert not state.dirty and state.patch == b""


def test_the_patch_restores_the_working_tree(repository, tmp_path):
    (repository / "a.py").write_bytes(b"a = 1\nb = 3")
    (repository / "sub").mkdir()
    new = {
        "sub/new file.txt": b"one\n\ntwo",
        "empty.py": b"",
        "r\xc3\xbc.txt".encode("latin-1").decode(): "ü\r\n".encode(),
    }
    for name, content in new.items():
        (repository / name).write_bytes(content)
    (repository / "run.sh").write_text("#!/bin/sh\n")
    (repository / "run.sh").chmod(0o755)
    (repository / "image.bin").write_bytes(b"\0\1\2")
    git(repository, "add", "image.bin")  # known to git, so its content counts, binary or not
    (repository / "ignored").mkdir()
    (repository / "ignored" / "x.txt").write_text("x")
    (repository / "large.csv").write_text("1\n" * LARGEST_UNTRACKED)
    (repository / ".env").write_text("TOKEN=hidden-word")
    state = git_state(repository / "sub")
    assert state.dirty and b"hidden-word" not in state.patch and b"large.csv" in state.patch.splitlines()[0]
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(repository), str(copy))
    (tmp_path / "changes.patch").write_bytes(state.patch)
    git(copy, "apply", "--whitespace=nowarn", "../changes.patch")
    assert (copy / "a.py").read_bytes() == b"a = 1\nb = 3"
    assert (copy / "image.bin").read_bytes() == b"\0\1\2"
    assert (copy / "run.sh").stat().st_mode & 0o100
    for name, content in new.items():
        assert (copy / name).read_bytes() == content
    assert not (copy / ".env").exists() and not (copy / "ignored").exists()


def test_without_a_repository_or_a_commit(tmp_path):
    assert git_state(tmp_path).commit == ""
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("a\n")
    assert git_state(tmp_path).commit == "" and b"a.txt" in git_state(tmp_path).patch


def test_the_hash_ignores_what_changes_nothing():
    config = {"seed": 1, "model": {"depth": 2, "width": 3}, "name": "x", "tracking": {"uri": "a"}, "debug": None}
    same = {"tracking": {"uri": "b"}, "model": {"width": 3, "depth": 2}, "seed": 1, "resume": "abc"}
    assert config_hash(config) == config_hash(same)
    assert config_hash(config) != config_hash(config | {"seed": 2})


def test_a_rename_leaves_the_hash_as_it_was():
    """As the release wrote and hashed it that names were changed after."""
    old = {
        "seed": 0,
        "predict": 5,
        "texts": 3,
        "again": False,
        "data": {"_target_": "src.data.images.Digits", "unseen_classes": 3, "batch_size": 32},
        "model": {"_target_": "src.models.policy.Policy", "discount": 0.9, "activation": "tanh"},
        "task": {"_target_": "src.tasks.make_task", "name": "auto", "loss": None, "label_smoothing": 0.0}
        | {"class_weights": None, "focal_gamma": 2.0, "huber_delta": 1.0, "mask_fraction": 0.15, "margin": 0.3}
        | {"scale": 16.0, "temperature": 0.1, "negatives": 0, "monitor": None},
    }
    kept = {key: old[key] for key in ("seed", "data", "model", "task")}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    assert config_hash(old) == hashlib.sha256(text.encode()).hexdigest()
    new = {
        "seed": 0,
        "show_predictions": 0,
        "log_texts": 3,
        "force": True,
        "callbacks": {},
        "data": {"_target_": "src.data.Digits", "held_out_classes": 3, "batch_size": 32},
        "model": {"_target_": "src.models.Policy", "gamma": 0.9, "activation": "tanh"},
        "task": {"_target_": "src.tasks.make_task", "name": "auto", "loss": None, "monitor": None},
    }
    assert config_hash(new) == config_hash(old)
    assert renames.renamed(old, "train")["model"] == new["model"]
    assert config_hash(new | {"model": new["model"] | {"gamma": 0.8}}) != config_hash(old)
    assert config_hash(new | {"callbacks": {"timer": {"_target_": "x.Timer"}}}) != config_hash(old)


def test_parameters_of_runs_of_before_a_rename_are_those_of_after():
    old = {"model._target_": "src.models.policy.Policy", "model.discount": "0.9", "predict": "5", "data.predict": "1"}
    new = {"model._target_": "src.models.Policy", "model.gamma": "0.9", "show_predictions": "5", "data.predict": "1"}
    assert renames.parameters(old) == new == renames.parameters(new | {"callbacks": "{}"})


def test_names_come_from_what_was_typed():
    config = {
        "model": {"_target_": "src.models.CNN"},
        "data": {"_target_": "src.data.Digits", "name": "digits"},
    }
    assert default_name(config, []) == "cnn-digits"
    assert default_name(config, ["optimizer.lr=0.1", "model.width=64"]) == "lr=0.1,width=64"
    assert default_name(config, ["tracking.uri=http://x", "name=y"]) == "cnn-digits"
    assert default_name({}, []) == "run"


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("top1@5", "top1_5"),
        ("val/loss", "val/loss"),
        ("/a//b/", "a/b"),
        ("../x", "x"),
        ("@", "_"),
        ("", "_"),
        ("ü", "ü"),
    ],
)
def test_every_name_becomes_legal(name, legal):
    assert legal_key(name) == legal
    assert len(legal_key(name * 300)) <= 250


def test_parameters():
    flat = flatten({"a": {"b": [1, {"c": None}], "d": {}}, "e": True, "f": "x" * 7000})
    assert flat["a.b"] == '[1, {"c": null}]' and flat["a.d"] == "{}" and flat["e"] == "True"
    assert len(flat["f"]) == 6000


def test_frames_survive_any_split_and_repetition():
    messages = [{"n": i, "text": "ü\n" * (i * 700)} for i in range(6)]
    lines = [line for i, message in enumerate(messages) for line in encode(i, message)]
    assert all(len(line) <= LINE for line in lines)
    repeated = [*lines[:4], *lines[2:], *lines]  # sent again from the middle of a message, then all again
    stream = b"".join(repeated)
    decoder = Decoder()
    received = [entry for i in range(0, len(stream), 997) for entry in decoder.feed(stream[i : i + 997])]
    assert received == list(enumerate(messages))


def test_lightning_logs_through_the_run(tmp_path):
    from src import tracking
    from src.tracking.logger import MLflowLogger

    run = tracking.start(config={}, overrides=[], root=tmp_path, system_metrics=False)
    logger = MLflowLogger(run)
    logger.log_hyperparams({"depth": 3})
    logger.log_metrics({"train/loss": 0.5, "epoch": 1}, step=7)
    logger.finalize("success")
    assert logger.version == run.id and Path(logger.save_dir) == run.directory
    run.finish("FAILED", "a reason")
    found = tracking.find_run(run.id, root=tmp_path)
    assert found.metrics == {"train/loss": 0.5}  # the epoch that Lightning adds is counted from 0
    assert found.params["depth"] == "3" and found.status == "FAILED"
