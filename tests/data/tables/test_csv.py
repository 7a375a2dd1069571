"""Tables of one's own: what is inferred, fitted and encoded, how rows are split, what streams, what is refused."""

from __future__ import annotations

import csv
import gzip
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from src.data.tables.csv import Csv
from src.data.tables.reader import TableFile
from src.data.tables.schema import encoded
from src.errors import UserError
from src.models.load import load_model
from src.spec import ColumnSchema
from tests.conftest import ROOT, Lab

COLOURS = ("red", "green", "blue")
HEADER = ["size", "colour", "born", "sold", "name", "price"]


def cells(rows: int = 60) -> list[list[str]]:
    """One column of each type and a numeric target; every seventh size and every ninth colour is missing."""
    first = date(2020, 1, 1)
    return [
        [
            "" if i % 7 == 6 else f"{i * 1.5:.1f}",
            "?" if i % 9 == 8 else COLOURS[i % 3],
            (first + timedelta(days=11 * i)).isoformat(),
            "yes" if i % 2 else "no",
            f"item {i * i}",
            f"{i * 2.25:.2f}",
        ]
        for i in range(rows)
    ]


def text(rows: list[list[str]], header: list[str] | None = HEADER, separator: str = ",") -> str:
    return "".join(separator.join(row) + "\n" for row in ([header] if header else []) + rows)


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def ready(**options) -> Csv:
    data = Csv(**({"target": "price"} | options))
    data.prepare_data()
    data.setup("fit")
    return data


def column(data: Csv, name: str) -> ColumnSchema:
    return next(column for column in data.spec.input.columns if column.name == name)


# what is inferred ----------------------------------------------------------------------------------------------------


def test_types_task_and_features_are_found(tmp_path) -> None:
    data = ready(path=write(tmp_path / "t.csv", text(cells())))
    kinds = {name: survey.kind for name, survey in data.surveys.items()}
    assert kinds == {"size": "number", "colour": "category", "born": "date", "sold": "category", "name": "text"}
    assert data.tasks == ("regression",) and data.spec.modality == "table"
    dates = tuple(f"born {part}" for part in ("year", "month", "day", "weekday", "hour", "days"))
    assert data.spec.input.feature_names == ("size", "size missing", *dates, "colour", "sold")
    assert data.spec.input.cardinalities == (5, 3)  # unknown, missing, three colours; unknown, no, yes
    assert data.spec.input_shape == (10,) and data.spec.splits == {"train": 36, "val": 12, "test": 12}


@pytest.mark.parametrize("form", ["tsv", "semicolons", "bars", "spaces", "gzip", "crlf", "mark", "latin-1", "parquet"])
def test_every_form_of_a_file_gives_the_same_rows(tmp_path, form) -> None:
    rows = [[cell.replace("red", "röt") for cell in row] for row in cells()]
    plain = text(rows)
    path = tmp_path / ("t.tsv" if form == "tsv" else "t.csv")
    content = {
        "tsv": text(rows, separator="\t"),
        "semicolons": text(rows, separator=";"),
        "bars": text(rows, separator="|"),
        "spaces": text([[f" {cell} " for cell in row] for row in rows]),
        "gzip": gzip.compress(plain.encode()),
        "crlf": plain.replace("\n", "\r\n"),
        "mark": "\ufeff" + plain,
        "latin-1": plain.encode("latin-1"),
        "parquet": "",
    }[form]
    write(path, content)
    if form == "parquet":
        table = {name: [row[i] or None for row in rows] for i, name in enumerate(HEADER)}
        table["size"] = [None if cell is None else float(cell) for cell in table["size"]]
        table["born"] = [date.fromisoformat(cell) for cell in table["born"]]
        pq.write_table(pa.table(table), path)
    expected = ready(path=write(tmp_path / "plain.csv", plain))
    data = ready(path=str(path))
    assert data.spec.input.columns == expected.spec.input.columns
    assert data.spec.sha256 == expected.spec.sha256


def test_a_file_without_a_header_has_columns_by_number(tmp_path) -> None:
    path = write(tmp_path / "t.csv", text(cells(), header=None))
    assert ready(path=path, target=5).spec.input.feature_names[-2:] == ("1", "3")
    words = text([["a", "x", "p"], ["b", "y", "q"], ["a", "x", "q"]] * 10, header=None)  # nothing but text
    assert ready(path=write(tmp_path / "words.csv", words), target=2).spec.splits["train"] == 18
    named = write(tmp_path / "named.csv", text([["1", "2"]] * 15 + [["2", "3"]] * 15, header=["2019", "2020"]))
    assert ready(path=named, target="2020").spec.class_counts == (9, 9)  # a known name tells the header
    assert ready(path=named, target=1, header=False, types={"0": "category"}, labels={"2": "a", "3": "b", "2020": "b"})


def test_a_number_of_the_first_row_is_no_name_of_a_column(tmp_path) -> None:
    rows = [[str(i % 5), "ab"[i % 2], str(2 + i % 3), f"{i}.5"] for i in range(60)]
    data = ready(path=write(tmp_path / "t.csv", text(rows, header=None)), target=2)  # where the first row has a 2
    assert data.spec.class_names == ("2", "3", "4") and sum(data.spec.splits.values()) == 60
    counted = ready(path=write(tmp_path / "counted.csv", text(rows, header=["0", "1", "2", "3"])), target=2)
    assert counted.spec == data.spec  # as pandas names columns that have no names
    known = [column.name for column in data.spec.input.columns]
    assert not TableFile(tmp_path / "t.csv", known=known).header
    assert TableFile(tmp_path / "counted.csv", known=known).header


def test_numbers_of_parquet_of_any_size_are_numbers(tmp_path) -> None:
    values = [10**17 + i * i for i in range(30)]
    pq.write_table(pa.table({"x": values, "price": [i * 0.5 for i in range(30)]}), tmp_path / "t.parquet")
    plain = text([[str(value), str(i * 0.5)] for i, value in enumerate(values)], ["x", "price"])
    data = ready(path=str(tmp_path / "t.parquet"))
    assert data.spec.input.columns == ready(path=write(tmp_path / "t.csv", plain)).spec.input.columns


def test_between_semicolons_numbers_may_have_a_decimal_comma(tmp_path) -> None:
    plain = [[f"{i * 1.5}", f"{i * 0.25}"] for i in range(30)]
    written = [[cell.replace(".", ",") for cell in row] for row in plain]
    data = ready(path=write(tmp_path / "comma.csv", text(written, ["x", "price"], ";")))
    assert data.spec.sha256 == ready(path=write(tmp_path / "t.csv", text(plain, ["x", "price"]))).spec.sha256


def test_what_was_inferred_can_be_overridden(tmp_path) -> None:
    path = write(tmp_path / "t.csv", text(cells()))
    data = ready(path=path, types={"size": "category", "name": "ignore"}, ignore=["sold"], missing=["red"])
    assert column(data, "size").type == "category"
    assert {c.name for c in data.spec.input.columns} == {"size", "colour", "born"}
    assert "red" not in column(data, "colour").categories and "?" in column(data, "colour").categories
    day_first = text([["13.01.2020", "1"], ["02.01.2020", "2"]] * 15, header=["when", "price"])
    assert column(ready(path=write(tmp_path / "d.csv", day_first)), "when").format == "%d.%m.%Y"
    month_first = text([["01/02/2020", "1"], ["02/03/2020", "2"]] * 15, header=["when", "price"])
    path = write(tmp_path / "m.csv", month_first)
    assert column(ready(path=path), "when").format == "%m/%d/%Y"
    assert column(ready(path=path, types={"when": "%d/%m/%Y"}), "when").format == "%d/%m/%Y"


def test_row_numbers_and_empty_columns_are_left_out(tmp_path) -> None:
    rows = [[str(i + 1), "", str(i % 5), str(i * 0.5)] for i in range(30)]
    data = ready(path=write(tmp_path / "t.csv", text(rows, header=["id", "void", "x", "price"])))
    assert data.spec.input.feature_names == ("x",)
    assert {name: found["note"] for name, found in data.describe()["columns"].items()} == {
        "id": "row numbers", "void": "empty", "x": ""
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "task", "tasks", "names"),
    [
        (["0", "1"], "auto", ("binary", "classification"), ("0", "1")),
        (["good", "bad"], "auto", ("binary", "classification"), ("bad", "good")),
        (["1", "2", "10"], "auto", ("classification",), ("1", "2", "10")),
        (["1", "2", "10"], "regression", ("regression",), ()),
        (["0.5", "1.5", "2.5"], "auto", ("regression",), ()),
        (["0.5", "1.5", "2.5"], "classification", ("classification",), ("0.5", "1.5", "2.5")),
        ([str(i) for i in range(30)], "auto", ("regression",), ()),
    ],
)
def test_the_task_follows_the_target(tmp_path, values, task, tasks, names) -> None:
    rows = [[str(i % 7), values[i % len(values)]] for i in range(90)]
    data = ready(path=write(tmp_path / "t.csv", text(rows, header=["x", "price"])), task=task)
    assert data.tasks == tasks and data.spec.class_names == names


def test_labels_name_classes_merge_them_and_give_their_order(tmp_path) -> None:
    rows = [[str(i % 7), ("<=50K", ">50K", "<=50K.", ">50K.")[i % 4]] for i in range(60)]
    path = write(tmp_path / "t.csv", text(rows, header=["x", "price"]))
    labels = {">50K": "rich", ">50K.": "rich", "<=50K": "poor", "<=50K.": "poor"}
    data = ready(path=path, labels=labels)
    assert data.spec.class_names == ("rich", "poor") and data.spec.class_counts == (18, 18)


# what is fitted and encoded ------------------------------------------------------------------------------------------


def parted(rows: list[list[str]], parts: list[str], path: Path, header=HEADER) -> str:
    return write(path, text([[*row, part] for row, part in zip(rows, parts, strict=True)], [*header, "part"]))


def test_only_training_rows_are_measured(tmp_path) -> None:
    parts = ["train", "train", "val", "test"] * 15
    before = ready(path=parted(cells(), parts, tmp_path / "a.csv"), split_column="part")
    other = cells()
    for row, part in zip(other, parts, strict=True):
        if part != "train":
            row[:4] = ["99999", "violet", "1900-05-05", "no"]
    after = ready(path=parted(other, parts, tmp_path / "b.csv"), split_column="part")
    assert after.spec.input.columns == before.spec.input.columns
    assert torch.equal(after.splits["train"]["input"], before.splits["train"]["input"])
    assert after.unknown["b.csv"]["colour"] == 30 and before.unknown["a.csv"]["colour"] == 0


def test_numbers_are_standardised_and_missing_ones_are_the_median(tmp_path) -> None:
    rows = [[value, str(i)] for i, value in enumerate(["1", "2", "3", "", "10"] * 6)]
    parts = ["train"] * 25 + ["test", "val"] * 2 + ["test"]
    data = ready(path=parted(rows, parts, tmp_path / "t.csv", ["x", "price"]), split_column="part")
    known = np.array([1.0, 2, 3, 10])
    assert column(data, "x").mean == (known.mean(),) and column(data, "x").fill == (2.5,)
    expected = (np.array([1, 2, 3, 2.5, 10]) - known.mean()) / known.std()
    values = data.splits["train"]["input"][:5]
    np.testing.assert_allclose(values[:, 0], expected, rtol=1e-6)
    assert values[:, 1].tolist() == [0, 0, 0, 1, 0]


def test_quantiles_make_any_distribution_normal(tmp_path) -> None:
    skewed = np.exp(3 * np.random.default_rng(0).normal(size=4000))
    rows = [[f"{x:.6g}", str(i)] for i, x in enumerate(skewed)]
    data = ready(path=write(tmp_path / "t.csv", text(rows, ["x", "price"])), numbers="quantile")
    for part in ("train", "test"):
        values = data.splits[part]["input"][:, 0]
        assert abs(values.mean()) < 0.1 and abs(values.std() - 1) < 0.1
    order = data.splits["test"]["input"][:, 0].argsort()
    raw = torch.tensor(skewed)[data.splits["test"]["target"].long()]
    assert (raw[order].diff() >= 0).all()  # the order stays


def test_dates_become_parts(tmp_path) -> None:
    rows = [[f"2024-02-{1 + i % 29:02d} 13:30", str(i)] for i in range(58)]
    data = ready(path=write(tmp_path / "t.csv", text(rows, ["when", "price"])))
    of = column(data, "when")
    raw = data.splits["train"]["input"] * torch.tensor(of.std) + torch.tensor(of.mean)
    row = dict(zip(data.spec.input.feature_names, raw[0].tolist(), strict=True))
    day = 1 + int(data.splits["train"]["target"][0]) % 29
    assert [round(row[f"when {part}"]) for part in ("year", "month", "day", "hour")] == [2024, 2, day, 13]
    assert round(row["when weekday"]) == date(2024, 2, day).weekday()
    assert row["when days"] == pytest.approx((date(2024, 2, day) - date(1970, 1, 1)).days + 13.5 / 24, abs=0.01)


def test_rare_and_surplus_categories_share_the_code_of_the_unknown(tmp_path) -> None:
    names = ["a"] * 20 + ["b"] * 15 + ["c"] * 10 + ["once"]
    rows = [[name, str(i)] for i, name in enumerate(names * 2)]
    parts = ["train"] * len(names) + ["test", "val"] * (len(names) // 2)
    path = parted(rows, parts, tmp_path / "t.csv", ["x", "price"])
    data = ready(path=path, split_column="part")
    assert column(data, "x").categories == ("a", "b", "c") and data.spec.input.cardinalities == (4,)
    assert data.splits["train"]["input"][:, 0].tolist() == [1] * 20 + [2] * 15 + [3] * 10 + [0]
    assert column(ready(path=path, split_column="part", max_categories=2), "x").categories == ("a", "b")


def test_a_further_table_is_encoded_by_the_spec_alone(tmp_path) -> None:
    data = ready(path=write(tmp_path / "t.csv", text(cells())))
    spec = type(data.spec).from_dict(data.spec.to_dict())
    assert spec == data.spec
    torch.save(data.spec.to_dict(), tmp_path / "spec.pt")
    assert torch.load(tmp_path / "spec.pt", weights_only=True) == data.spec.to_dict()
    order = [3, 1, 0, 2]  # no name, no price
    further = [[row[i] for i in order] for row in [*cells(), ["5", "violet", "2031-01-01", "perhaps", "", ""]]]
    file = TableFile(write(tmp_path / "new.csv", text(further, [HEADER[i] for i in order])))
    ((row, piece),) = file
    batch, unknown = encoded(spec.input, piece, row, file.place)
    assert unknown == {"colour": 1, "sold": 1} and batch["input"].shape == (61, 10)
    assert batch["input"][60, -2:].tolist() == [0, 0]
    whole = torch.cat([data.splits[name]["input"] for name in ("train", "val", "test")])
    assert len({*map(tuple, batch["input"][:60].tolist())} ^ {*map(tuple, whole.tolist())}) == 0
    with pytest.raises(UserError, match="row 1, column born: there is no such column"):
        encoded(spec.input, piece.drop_columns(["born"]))


# parts ---------------------------------------------------------------------------------------------------------------


def test_folds_cover_all_rows_once_and_keep_the_classes(tmp_path) -> None:
    rows = [[str(i), "ab"[i % 3 == 0]] for i in range(103)]
    path = write(tmp_path / "t.csv", text(rows, header=["x", "price"]))
    folds = [ready(path=path, folds=5, fold=k, types={"x": "number"}) for k in range(5)]
    tests = [
        fold.splits["test"]["input"][:, 0] * column(fold, "x").std[0] + column(fold, "x").mean[0] for fold in folds
    ]
    assert sorted(round(value) for test in tests for value in test.tolist()) == list(range(103))
    for fold in folds:
        assert 20 <= fold.spec.splits["test"] <= 21 and 6 <= fold.splits["test"]["target"].sum() <= 8
        assert sum(fold.spec.splits.values()) == 103 and fold.spec.splits["val"] == pytest.approx(0.2 * 82, abs=1)


def test_parts_come_from_files_or_a_column(tmp_path) -> None:
    rows = cells()
    paths = {"path": rows[:40], "val_path": rows[40:50], "test_path": rows[50:]}
    options = {option: write(tmp_path / f"{option}.csv", text(part)) for option, part in paths.items()}
    data = ready(**options)
    assert data.spec.splits == {"train": 40, "val": 10, "test": 10}
    assert data.splits["test"]["target"].tolist() == [float(row[-1]) for row in rows[50:]]
    named = ["train"] * 40 + ["valid"] * 10 + ["Test"] * 10
    again = ready(path=parted(rows, named, tmp_path / "all.csv"), split_column="part")
    assert all(
        torch.equal(again.splits[p][key], data.splits[p][key]) for p in data.splits for key in ("input", "target")
    )
    del options["val_path"]
    assert ready(**options).spec.splits == {"train": 32, "val": 8, "test": 10}


# memory --------------------------------------------------------------------------------------------------------------


def test_rows_in_a_file_are_the_same_as_rows_in_memory(tmp_path) -> None:
    path = write(tmp_path / "t.csv", text(cells()))
    kept, mapped = (ready(path=path, in_memory=choice, batch_size=8) for choice in (True, False))
    assert not isinstance(mapped.splits["train"]["input"], torch.Tensor)
    assert kept.spec.input.columns == mapped.spec.input.columns
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for a, b in zip(getattr(kept, name)(), getattr(mapped, name)(), strict=True):
            assert all(torch.equal(a[key], b[key]) for key in ("input", "target", "index"))
    with pytest.raises(UserError, match="data.on_device=true keeps rows in memory"):
        ready(path=path, in_memory=False, on_device=True)


LARGE = """
import os, sys
from src.data.tables.csv import Csv
from tests.process import limit_memory
for suffix in ("csv", "parquet"):  # each in a process of its own; they share the imports
    if os.fork() == 0:
        small = Csv(path=f"small.{suffix}", target="y", in_memory=False)
        small.setup("fit")  # whatever is imported and allocated once
        limit_memory(30)
        data = Csv(path=f"large.{suffix}", target="y", in_memory=False, batch_size=4096)
        data.setup("fit")
        print(suffix, sum(len(batch["input"]) for batch in data.train_dataloader()))
        sys.exit()
    if os.wait()[1]:
        sys.exit(1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit what a process allocates")
def test_a_table_larger_than_the_memory_it_gets_streams(tmp_path) -> None:
    """200,000 rows: 87 MB of text, twice that as strings, 32 MB encoded; the process may allocate 30 MB."""
    from pyarrow.csv import CSVWriter

    values = np.random.default_rng(0).normal(size=(20_000, 40)).astype(np.float32)
    table = pa.table({f"x{i}": values[:, i] for i in range(39)} | {"y": values[:, 39]})
    for name, times in {"small": 1, "large": 10}.items():
        for suffix, writers in {"csv": CSVWriter, "parquet": pq.ParquetWriter}.items():
            with writers(tmp_path / f"{name}.{suffix}", table.schema) as writer:
                for _ in range(times):
                    writer.write_table(table)
    command = [sys.executable, "-P", "-c", LARGE]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert dict(line.split() for line in done.stdout.splitlines()) == {"csv": "120000", "parquet": "120000"}


# a whole run ---------------------------------------------------------------------------------------------------------


def test_trains_from_the_command_line_and_predicts_from_the_checkpoint(lab: Lab) -> None:
    rows = [[str(i % 13), COLOURS[i % 3], "yes" if i % 3 == 1 else "no"] for i in range(120)]
    path = write(lab.folder / "t.csv", text(rows, ["x", "colour", "bought"]))
    options = [f"data.path={path}", "data.target=bought", "data.types.x=category", "tracking.system_metrics=false"]
    result = lab.train("model=fnn", "data=csv", *options, "optimizer.lr=0.01", "data.batch_size=16")
    assert result.code == 0, result.err
    assert "t.csv: bought (binary) from category (2): x, colour" in result.err
    (run,) = lab.runs()
    assert lab.points(run.info.run_id)["test/accuracy"][-1][1] == 1.0
    with open(lab.artifacts(run.info.run_id) / "worst_examples.csv", newline="") as written:
        worst = next(csv.DictReader(written))
    assert worst["colour"] in COLOURS and 0 <= int(worst["x"]) < 13  # as the file has them
    model = load_model(lab.artifacts(run.info.run_id) / "checkpoints" / "best.ckpt")
    file = TableFile(write(lab.folder / "new.csv", "colour,x\ngreen,3\nred,4\nmauve,5\n"))
    ((row, piece),) = file
    batch, unknown = encoded(model.spec.input, piece, row, file.place)
    assert unknown == {"x": 0, "colour": 1}
    with torch.no_grad():
        assert model.task.predict(model(batch["input"]))[:2].round().tolist() == [1, 0]
    refused = lab.train("model=fnn", "data=csv", f"data.path={path}", "tracking=none")
    assert refused.code == 2 and refused.err.strip().endswith(f"{path} has x, colour, bought")


# bad input -----------------------------------------------------------------------------------------------------------

ROWS = [[str(i % 11), "ab"[i % 2]] for i in range(44)]


def bad(where: int, *row: str) -> str:
    return text([*ROWS[:where], list(row), *ROWS[where:]], ["x", "price"])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "t.csv is empty"),
        ("\n \n", {}, "t.csv is empty"),
        ("x,price\n", {}, "t.csv has a header and no rows"),
        (text(ROWS, ["x", "price"]), {"target": None}, r"data.target: which .* learnt\? .*t.csv has x, price"),
        (text(ROWS, ["x", "price"]), {"target": "prise"}, r"has no column prise \(did you mean price\?\)"),
        (text(ROWS, ["x", "price"]), {"ignore": ["y"]}, r"data.ignore: .*has no column y \(known: price, x\)"),
        (text(ROWS, ["x", "price"]), {"ignore": ["x"]}, "has no column to learn from beside price"),
        (
            text([[f"${i}", row[1]] for i, row in enumerate(ROWS)], ["x", "price"]),
            {},
            r"beside price \(left out: x, text, hardly a value twice\)",
        ),
        (text(ROWS, ["x", "price"]), {"types": {"x": "nmber"}}, r"data.types.x=nmber .*\(did you mean number\?\)"),
        (text(ROWS, ["x", "price"]), {"numbers": "rank"}, "data.numbers=rank is not known .known: quantile, standard"),
        (text(ROWS, ["x", "price"]), {"separator": "ab"}, "data.separator=ab: one character, or tab"),
        (text(ROWS, ["x", "price"]), {"encoding": "klingon"}, "data.encoding=klingon: there is no such encoding"),
        (text(ROWS, ["x", "price"]), {"folds": 5, "fold": 5}, "data.folds=5 and data.fold=5: .* counted from 0"),
        (text(ROWS, ["x", "price"]), {"folds": 99}, "44 rows, too few for data.folds=99"),
        (text(ROWS, ["x", "price"]), {"folds": 5, "split_column": "x"}, "split_column and data.folds: two ways"),
        (
            text([[part, "ab"[i % 2]] for i, part in enumerate(["train", "val", "test"] * 9)], ["x", "price"]),
            {"split_column": "x"},
            "has no column to learn from beside price$",
        ),
        (text([[*row, row[0]] for row in ROWS], ["x", "price", "x"]), {}, "has 2 columns called x"),
        (text([[row[0], "a"] for row in ROWS], ["x", "price"]), {}, r"column price has one class only \(a\)"),
        (
            bad(9, "3", "c"),
            {},
            r"t.csv, row 10, column price: class c: 1 row, too few for train, val, test: at least 3 are needed",
        ),
        (bad(9, "3", ""), {}, "column price is missing in row 10: a row without it teaches nothing"),
        (bad(9, "3"), {}, "row 10: 1 cells, there are 2 columns"),
        (bad(9, "3", "a", "b"), {}, "row 10: 3 cells, there are 2 columns"),
        (bad(9, "inf", "a"), {}, "row 10, column x: 'inf' is no finite number"),
        (bad(9, "1e999", "a"), {}, "row 10, column x: '1e999' is no finite number"),
        (bad(9, "three", "a"), {"types": {"x": "number"}}, "row 10, column x: 'three' is no finite number"),
        (bad(9, "3", "a"), {"task": "regression"}, "row 1, column price: 'a' is no finite number"),
        (bad(9, "3", "a"), {"labels": {"a": "good"}}, r"row 2, column price: 'b' is no class of data.labels"),
        (bad(9, "é", "a").encode() + "ü,a\n".encode("latin-1"), {}, "line 47 is not UTF-8, line 11 is"),
        (bad(9, "3", "é").encode("latin-1"), {"encoding": "utf-8"}, "row 10: bytes that are not utf-8"),
        (b"PK\x03\x04" + bytes(99), {}, "t.csv is neither text nor Parquet"),
        (b"PAR1" + bytes(99), {}, r"t.csv cannot be read \(Parquet magic bytes"),
        (gzip.compress(bad(9, "3", "a").encode(), mtime=0)[:-20], {}, r"t.csv cannot be read \("),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path, content, options, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ready(**({"path": write(tmp_path / "t.csv", content)} | options))
    assert "\n" not in str(caught.value)


def test_a_word_among_many_numbers_and_a_date_that_is_none_are_mistakes(tmp_path) -> None:
    rows = [["many" if i == 40 else f"{i}.5", str(i)] for i in range(60)]
    with pytest.raises(
        UserError, match="row 41, column x: 'many' is no finite number; mend it, or name it in data.mis"
    ):
        ready(path=write(tmp_path / "t.csv", text(rows, ["x", "price"])))
    days = [["2023-02-30" if i == 20 else f"2023-02-{1 + i % 28:02d}", str(i)] for i in range(60)]
    with pytest.raises(UserError, match="row 21, column x: '2023-02-30' is no date of the form ISO8601"):
        ready(path=write(tmp_path / "t.csv", text(days, ["x", "price"])))


@pytest.mark.parametrize("word", ["inf", "1e999", "many"])
def test_a_word_among_many_numbers_of_the_target_is_a_mistake_and_no_class(tmp_path, word) -> None:
    values = [word if i == 40 else f"{i}.5" for i in range(60)]
    path = write(tmp_path / "t.csv", text([[str(i % 7), value] for i, value in enumerate(values)], ["x", "price"]))
    with pytest.raises(UserError, match=f"row 41, column price: '{word}' is no finite number"):
        ready(path=path)
    grades = text([[str(i % 7), "none so far" if i % 15 == 0 else str(i % 5)] for i in range(90)], ["x", "price"])
    assert ready(path=write(tmp_path / "g.csv", grades)).spec.class_names == ("0", "1", "2", "3", "4", "none so far")


def test_a_missing_file_and_a_column_of_lists_are_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"data.path: .*nowhere.csv cannot be read \(No such file"):
        ready(path=str(tmp_path / "nowhere.csv"))
    pq.write_table(pa.table({"x": [1.0], "price": [1.0]}).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="empty.parquet has a header and no rows"):
        ready(path=str(tmp_path / "empty.parquet"))
    pq.write_table(pa.table({"x": [[1], [2]], "price": [1.0, 2.0]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="column x holds list<.*>, no single values"):
        ready(path=str(tmp_path / "t.parquet"))


def test_a_part_s_name_is_one_of_three(tmp_path) -> None:
    path = parted(ROWS, ["train", "val", "holdout"] * 14 + ["test"] * 2, tmp_path / "t.csv", ["x", "price"])
    with pytest.raises(UserError, match="row 3, column part: 'holdout': train, val or test"):
        ready(path=path, split_column="part")


def test_a_part_s_file_must_fit_the_first_one(tmp_path) -> None:
    path = write(tmp_path / "t.csv", text(ROWS, ["x", "price"]))
    for content, message in (
        ("x,price\n3,c\n", "data.test_path: .*row 1, column price: 'c' is no class"),
        ("x,prise\n3,a\n", "data.test_path: .*has no column price"),
        ("y,price\n3,a\n", "data.test_path: .*column x: there is no such column"),
        ("x,price\n3,a\nmany,b\n", "data.test_path: .*row 2, column x: 'many' is no finite number"),
    ):
        with pytest.raises(UserError, match=message):
            ready(path=path, test_path=write(tmp_path / "test.csv", content))


def test_the_columns_are_plain_data(tmp_path) -> None:
    data = ready(path=write(tmp_path / "t.csv", text(cells())), numbers="quantile")
    plain = (str, int, float, bool, list)
    written = data.spec.to_dict()["input"]
    for values in written["columns"]:
        assert all(type(value) in plain for value in values.values()), values
    assert written["cardinalities"] == list(data.spec.input.cardinalities)
