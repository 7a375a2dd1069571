#!/usr/bin/env bash
# A data module that takes any misspelt keyword.
#
# One would expect: a class whose settings are attributes, without an `__init__` of its own, refuses a keyword that
#   nobody reads, as a LightningModule and a Callback do, and Python's own classes.
# What happens: `LightningDataModule.__init__` takes any arguments and drops them. `Rows(batch_sise=64)` works without
#   a word, and so does `Rows(batch_size=64)`, which looks as if it set something.
# Versions: pytorch-lightning 2.6.6, torch 2.14.1, Python 3.11.
# Why it matters here: a run would be recorded with a setting that it did not have. src/config/signature.py, which
#   compares keywords with what a class takes, knows that this class takes none (`_TAKES_ANYTHING`).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pytorch-lightning==2.6.6 torch==2.14.1

cat > "$folder/try.py" <<'PYTHON'
import pytorch_lightning as pl

for base in (pl.LightningDataModule, pl.LightningModule, pl.Callback):
    rows = type("Rows", (base,), {"batch_size": 32})
    for keyword in ("batch_size", "batch_sise"):
        try:
            print(f"{base.__name__}: took {keyword}=64, batch_size is {rows(**{keyword: 64}).batch_size}")
        except TypeError:
            print(f"{base.__name__}: refused {keyword}=64")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py" 2> "$folder/log") || { cat "$folder/log" >&2; exit 1; }
echo "$seen"
[[ $seen == "LightningDataModule: took batch_size=64, batch_size is 32
LightningDataModule: took batch_sise=64, batch_size is 32
LightningModule: refused batch_size=64
LightningModule: refused batch_sise=64
Callback: refused batch_size=64
Callback: refused batch_sise=64" ]]

# Seen:
# LightningDataModule: took batch_size=64, batch_size is 32
# LightningDataModule: took batch_sise=64, batch_size is 32
# LightningModule: refused batch_size=64
# LightningModule: refused batch_sise=64
# Callback: refused batch_size=64
# Callback: refused batch_sise=64
