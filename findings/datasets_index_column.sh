#!/usr/bin/env bash
# A column that a table gets or not, by which rows were kept.
#
# One would expect: `Dataset.from_pandas(frame)` of datasets has the columns of the frame. Its manual says that an
#   index becomes a column unless it is a RangeIndex, so shuffling might add one, and filtering always or never.
# What happens: a filter of pandas 3 leaves a RangeIndex where the rows that remain happen to be evenly spaced, else
#   numbers. So two filters of one frame give tables of different columns: one has `__index_level_0__` as its last.
# Versions: datasets 5.2.0, pandas 3.1.1, pyarrow 25.0.1, Python 3.11.
# Why it matters here: numbers of rows become something to learn from, or, where the last column is what is learnt, the
#   target. src/data/own/frames.py leaves out columns of that name.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pandas==3.1.1 pyarrow==25.0.1

cat > "$folder/try.py" <<'PYTHON'
import pandas as pd
from datasets import Dataset

frame = pd.DataFrame({"text": list("abcdef"), "length": [1, 2, 1, 2, 1, 1], "label": [0, 1, 1, 0, 1, 1]})
for title, rows in (
    ("all", frame),
    ("shuffled", frame.sample(frac=1, random_state=0)),
    ("length == 2", frame[frame.length == 2]),
    ("length == 1", frame[frame.length == 1]),
    ("length == 1, index dropped", frame[frame.length == 1].reset_index(drop=True)),
):
    print(f"{title}:", *Dataset.from_pandas(rows).column_names)
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
[[ $seen == "all: text length label
shuffled: text length label __index_level_0__
length == 2: text length label
length == 1: text length label __index_level_0__
length == 1, index dropped: text length label" ]]

# Seen:
# all: text length label
# shuffled: text length label __index_level_0__
# length == 2: text length label
# length == 1: text length label __index_level_0__
# length == 1, index dropped: text length label
