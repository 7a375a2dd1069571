"""Provenance of a run, to explain and repeat it: code, command, environment, machine, and the config's hash."""

from __future__ import annotations

import fnmatch
import functools
import getpass
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.runtime import invocation, project, renames
from src.tracking.redaction import redact

# They change nothing about what a run computes, so they do not make it another run.
VOLATILE_KEYS = (
    "name",
    "tags",
    "resume",
    "tracking",
    "checkpoint",
    "n_jobs",
    "jobs_per_gpu",
    "on_error",
    "repeats",
    "folds",
    "study",
    "force",
    "traceback",
    "debug",
    "show_predictions",
    "log_texts",
    "log_images",
    "explain",
)
SECRET_FILES = (".env*", "*.pem", "*.key", "*.p12", "id_rsa*", "id_ed25519*", "*credentials*", ".netrc", ".pypirc")
LARGEST_UNTRACKED = 1_000_000  # bytes
LARGEST_PATCH = 20_000_000  # bytes
PARAM_LENGTH = 6000  # characters; MLflow's limit
PARAM_KEY_LENGTH = 250
PAGES = (("rerun", " verify=true"), ("evaluate", ""), ("report", ""))
CUT_MARK = "... (cut; whole in config.yaml)"


def config_hash(config: Mapping[str, Any]) -> str:
    """sha256 of the resolved config as canonical JSON, without the keys that do not change the result.

    Names are those of the first release, so that a run is known again after one of them has changed.
    """
    kept = {k: v for k, v in renames.renamed(dict(config), "train").items() if k not in VOLATILE_KEYS}
    text = json.dumps(renames.original(kept), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Parameters as MLflow takes them: `{"model.depth": "3"}`; lists as JSON, long values cut with a mark."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
            continue
        text = json.dumps(value, default=str) if isinstance(value, list | tuple | Mapping) else str(value)
        if len(text) > PARAM_LENGTH:
            text = text[: PARAM_LENGTH - len(CUT_MARK)] + CUT_MARK
        flat[legal_key(name)] = text
    return flat


def legal_key(name: str) -> str:
    """A parameter or metric name that MLflow takes: other characters than letters, digits and `_-. :/` become `_`."""
    parts = [p for p in re.sub(r"[^/\w.\- :]", "_", name).split("/") if p.strip(". ")]
    return ("/".join(parts) or "_")[:PARAM_KEY_LENGTH]


def default_name(config: Mapping[str, Any], overrides: Iterable[str]) -> str:
    """`lr=0.1,width=64` from the overrides (last part of each dotted key), else `<model>-<data>`."""
    parts = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if value and key not in VOLATILE_KEYS and key.partition(".")[0] not in ("hydra", *VOLATILE_KEYS):
            parts.append(f"{key.partition('@')[0].rpartition('.')[2].rpartition('/')[2]}={value}")
    if parts:
        return ",".join(parts)[:250]
    return "-".join(filter(None, (_last_word(config.get("model")), _last_word(config.get("data"))))) or "run"


def _last_word(node: object) -> str:
    """`cnn` from a node with `_target_: src.models.cnn.CNN`, or its `name` where it has one."""
    if isinstance(node, Mapping):
        return str(node.get("name") or node.get("_target_") or "").rpartition(".")[2].lower()
    return str(node or "").lower()


@dataclass(frozen=True)
class Repository:
    """Where a run records the state of a repository: two tags and a file.

    Attributes:
        whose: in front of a word for it, where it is not the project's.
    """

    commit: str
    dirty: str
    patch: str
    whose: str = ""

    def words(self, tags: Mapping[str, str], length: int = 40) -> str:
        """The recorded state in words; `-` where none was recorded."""
        changed = " with uncommitted changes" if tags.get(self.dirty) == "true" else ""
        return tags.get(self.commit, "-")[:length] + changed


PROJECT = Repository("mlflow.source.git.commit", "labbook.git_dirty", "changes.patch")
# of a project of a user's own, beside which Labbook may be a checkout
LABBOOK = Repository("labbook.commit", "labbook.dirty", "labbook.patch", "labbook's ")


@dataclass(frozen=True)
class GitState:
    """The working tree as it stood at the run's start; all empty outside a repository."""

    commit: str = ""
    dirty: bool = False
    patch: bytes = b""


def git_state(root: Path) -> GitState:
    """Commit and uncommitted changes of the repository around `root`; nothing without git or a repository."""
    commit = _git(root, "rev-parse", "HEAD")
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None:
        return GitState()
    top_path = Path(os.fsdecode(top.strip()))
    hidden = [f":(exclude,glob)**/{pattern}" for pattern in SECRET_FILES]
    against = ["HEAD"] if commit else ["--cached"]
    patch = _git(top_path, "diff", *against, "--binary", "--no-color", "--no-ext-diff", "--", ".", *hidden) or b""
    untracked = os.fsdecode(_git(top_path, "ls-files", "--others", "--exclude-standard", "-z") or b"")
    left_out = []
    for name in filter(None, untracked.split("\0")):
        added = _untracked_patch(top_path, name) if len(patch) < LARGEST_PATCH else None
        if added is None:
            left_out.append(name)
        else:
            patch += added
    if left_out:  # git apply ignores text before the first header
        names = ", ".join(left_out[:50]) + (f" and {len(left_out) - 50} more" if len(left_out) > 50 else "")
        patch = f"# untracked, left out (large, binary or secret): {names}\n".encode("utf-8", "replace") + patch
    return GitState((commit or b"").decode().strip(), bool(patch), patch)


def _untracked_patch(top: Path, name: str) -> bytes | None:
    """The patch that adds one untracked text file, or None for a file that does not belong in a record."""
    path = top / name
    if any(fnmatch.fnmatch(path.name, pattern) for pattern in SECRET_FILES) or path.is_symlink() or not path.is_file():
        return None
    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST_UNTRACKED else b"\0"
        mode = b"100755" if os.access(path, os.X_OK) else b"100644"
    except OSError:
        return None
    if b"\0" in content or not name.isprintable() or '"' in name or "\\" in name:
        return None
    shown = os.fsencode(name)
    blob = hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest().encode()
    head = b"diff --git a/%s b/%s\nnew file mode %s\nindex %s..%s\n" % (shown, shown, mode, b"0" * 40, blob)
    if not content:
        return head
    lines = content.split(b"\n")
    ending = b"\n\\ No newline at end of file\n" if lines[-1] else b"\n"
    lines = lines if lines[-1] else lines[:-1]
    tab = b"\t" if b" " in shown else b""
    hunk = b"--- /dev/null\n+++ b/%s%s\n@@ -0,0 +1,%d @@\n" % (shown, tab, len(lines))
    return head + hunk + b"\n".join(b"+" + line for line in lines) + ending


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotepath=off", "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def installed() -> str:
    """Python and every installed distribution, one `name==version` a line."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name.lower(), f"{name}=={distribution.version}")
    lines = [f"# Python {platform.python_version()} ({platform.platform()})", *(found[k] for k in sorted(found))]
    return "\n".join(lines) + "\n"


@functools.cache
def machine() -> dict[str, str]:
    """Tags that describe this machine and its versions."""
    tags = {
        "labbook.host": socket.gethostname(),
        "labbook.cpu": _cpu_name(),
        "labbook.cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "labbook.memory_gb": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f}",
        "labbook.python": platform.python_version(),
    }
    for name in ("torch", "pytorch-lightning", "mlflow"):
        try:
            tags[f"labbook.{name.replace('-', '_')}"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return tags


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def note(run_id: str, git: GitState, command: list[str], secrets: Iterable[str]) -> str:
    """Head of a run's page, as Markdown: the command that began it, its code, and how to get it again."""
    code = f"\n\nat commit `{git.commit[:12]}`" if git.commit else ""
    if git.patch:
        code += " with the changes in `changes.patch`"
    lines = [
        f"    {redact(shlex.join(command), secrets)}{code}",
        "The same again, checked step by step; its figures with intervals; a page about it:",
        *(f"    {invocation.command(what)} run={run_id[:12]}{more}" for what, more in PAGES),
    ]
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


def source_tags(git: GitState, command: list[str], script: str, secrets: Iterable[str]) -> dict[str, str]:
    """MLflow's own source tags and ours: commit, command line, user."""
    tags = {
        "mlflow.source.name": redact(script, secrets),
        "mlflow.source.type": "LOCAL",
        "labbook.command": redact(shlex.join(command), secrets)[:8000],
        PROJECT.dirty: str(git.dirty).lower(),
    }
    if git.commit:
        tags[PROJECT.commit] = git.commit
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        tags["mlflow.user"] = str(os.getuid())
    return tags


def project_tags(name: str | None, labbook: GitState) -> dict[str, str]:
    """Labbook's version; in a project of a user's own, which the other tags are of, its name and Labbook's commit."""
    tags = {"labbook.version": project.version()}
    if name:
        tags["labbook.project"] = name
    if labbook.commit:
        tags |= {LABBOOK.commit: labbook.commit, LABBOOK.dirty: str(labbook.dirty).lower()}
    return tags
