#!/usr/bin/env bash
# Categories of polars that pyarrow cannot turn into text.
#
# One would expect: polars and pyarrow hand tables to each other without a copy, and pyarrow casts a column of a
#   dictionary of text to text, so `pa.table(frame)["column"].cast(pa.string())` works for a Categorical of polars.
# What happens: the table is made, but its dictionary is of the type string_view, and the cast fails: pyarrow has no
#   code that takes values of that type by their indices. The dictionary alone can be cast, and then be taken from.
#   `frame.to_arrow()` is another way: it makes a dictionary of large_string, which pyarrow casts.
# Versions: polars 2.1.0 with pyarrow 26.0.1, and polars 1.44.2 with pyarrow 25.0.1, Python 3.11.
# Why it matters here: a table of polars that is given as data would stop at its first column of categories.
#   src/data/own/frames.py casts the dictionary first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"

cat > "$folder/try.py" <<'PYTHON'
import polars as pl
import pyarrow as pa

frame = pl.DataFrame({"size": pl.Series(["small", "large", "small"], dtype=pl.Categorical)})
column = pa.table(frame)["size"]
print(f"polars {pl.__version__}, pyarrow {pa.__version__}:", column.type)
try:
    print("cast:", column.cast(pa.string()).to_pylist())
except pa.ArrowNotImplementedError as error:
    print("cast:", error)
cells = column.chunk(0)
print("dictionary cast first:", cells.dictionary.cast(pa.string()).take(cells.indices).to_pylist())
print("to_arrow and cast:", frame.to_arrow()["size"].cast(pa.string()).to_pylist())
PYTHON

seen=$(
    for versions in "polars==1.44.2 pyarrow==25.0.1" "polars==2.1.0 pyarrow==26.0.1"; do
        read -r polars pyarrow <<< "$versions"
        "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$polars" "$pyarrow"
        "$folder/venv/bin/python" "$folder/try.py"
    done
)
echo "$seen"
[[ $seen == "polars 1.44.2, pyarrow 25.0.1: dictionary<values=string_view, indices=uint32, ordered=0>
cast: Function 'array_take' has no kernel matching input types (string_view, uint32)
dictionary cast first: ['small', 'large', 'small']
to_arrow and cast: ['small', 'large', 'small']
polars 2.1.0, pyarrow 26.0.1: dictionary<values=string_view, indices=uint32, ordered=0>
cast: Function 'array_take' has no kernel matching input types (string_view, uint32)
dictionary cast first: ['small', 'large', 'small']
to_arrow and cast: ['small', 'large', 'small']" ]]

# Seen:
# polars 1.44.2, pyarrow 25.0.1: dictionary<values=string_view, indices=uint32, ordered=0>
# cast: Function 'array_take' has no kernel matching input types (string_view, uint32)
# dictionary cast first: ['small', 'large', 'small']
# to_arrow and cast: ['small', 'large', 'small']
# polars 2.1.0, pyarrow 26.0.1: dictionary<values=string_view, indices=uint32, ordered=0>
# cast: Function 'array_take' has no kernel matching input types (string_view, uint32)
# dictionary cast first: ['small', 'large', 'small']
# to_arrow and cast: ['small', 'large', 'small']
