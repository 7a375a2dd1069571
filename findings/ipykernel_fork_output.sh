#!/usr/bin/env bash
# Output of a forked process that does not go where its file descriptors do.
#
# One would expect: a process that a notebook's cell forks, and that opens a file as its descriptors 1 and 2, prints
#   into that file; at the latest, where `sys.stdout` is made anew from descriptor 1.
# What happens: `print` goes to the kernel, whose stream is still `sys.stdout` in the child. With a new `sys.stdout`,
#   `print` is in the file, but rich is not: it finds `get_ipython` among the builtins, and hands its text to the
#   kernel's display. Only without that name all goes into the file. No error says that text is missing there.
# Versions: ipykernel 7.4.0, rich 15.0.0, nbclient 0.11.0, Python 3.11, Linux.
# Why it matters here: what jobs of a sweep print, when a notebook has begun it, would be missing in their files.
#   src/sweeps/jobs/worker.py `_leave_notebook` takes both steps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ipykernel==7.4.0 rich==15.0.0 nbclient==0.11.0

cat > "$folder/cell.py" <<'PYTHON'
import builtins
import os
import sys

import rich


def child(title):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    file = os.open(title, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if title != "as it is":
        sys.stdout = os.fdopen(1, "w", 1, closefd=False)
    if title == "and without get_ipython":
        del builtins.get_ipython
    os.write(1, b"os.write\n")
    print("print")
    rich.print("rich")
    sys.stdout.flush()
    os._exit(0)


for title in ("as it is", "with a new sys.stdout", "and without get_ipython"):
    child(title)
    with open(title) as file:
        kept = file.read().split()
    with open("seen", "a") as seen:
        seen.write(f"{title}, in the file: {', '.join(kept)}\n")
PYTHON

cat > "$folder/try.py" <<'PYTHON'
from pathlib import Path

import nbclient
import nbformat

cell = nbformat.v4.new_code_cell(Path("cell.py").read_text())
notebook = nbformat.v4.new_notebook(cells=[cell])
nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
print(Path("seen").read_text(), end="")
PYTHON

export IPYTHONDIR="$folder/ipython"
seen=$(cd "$folder" && venv/bin/python try.py 2> log) || { cat "$folder/log" >&2; exit 1; }
echo "$seen"
[[ $seen == "as it is, in the file: os.write
with a new sys.stdout, in the file: os.write, print
and without get_ipython, in the file: os.write, print, rich" ]]

# Seen:
# as it is, in the file: os.write
# with a new sys.stdout, in the file: os.write, print
# and without get_ipython, in the file: os.write, print, rich
