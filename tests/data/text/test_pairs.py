"""Paired texts: generated dates, files of lines, captions; what a row holds and what is refused."""

from __future__ import annotations

import datetime
import gzip
from itertools import chain
from pathlib import Path

import pytest
import torch

from src.data.text.pairs import FIGURES, FORMS, Dates, Lines
from src.errors import UserError
from src.spec.tokenizer import BOS, EOS, PAD, Tokenizer


def ready(data):
    data.prepare_data()
    data.setup()
    return data


def read(data, part: str, column: str) -> list[str]:
    """All texts of a column."""
    tokens = Tokenizer(data.spec.input.tokenizer)
    rows = data.splits[part][column]
    return [tokens.decode(ids) for ids in rows[torch.arange(len(rows))].tolist()]


def files(folder: Path, **texts: str) -> dict[str, str]:
    """Writes texts; the options that name their files."""
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    return {f"{name}_path": str(folder / name) for name in texts}


@pytest.fixture(scope="module")
def dates() -> Dates:
    return ready(Dates(rows=2000))


def test_no_day_is_in_two_parts(dates) -> None:
    days = {name: read(dates, name, "target") for name in ("train", "val", "test")}
    assert {name: len(rows) for name, rows in days.items()} == {"train": 1600, "val": 200, "test": 200}
    assert len(set(chain.from_iterable(days.values()))) == 2000
    for day in days["test"]:
        assert datetime.date.fromisoformat(day).isoformat() == day


def test_the_forms_of_a_date() -> None:
    day = datetime.date(2024, 3, 3)
    written = [form(day) for form in FORMS + FIGURES]
    for text in (
        "3rd of March 2024",
        "March 3, 2024",
        "Sunday, March 3, 2024",
        "Sun, 3 Mar 2024",
        "3-Mar-24",
        "3/3/24",
    ):
        assert text in written
    endings = [FORMS[1](datetime.date(2023, 1, day)).split()[1] for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)]
    assert " ".join(endings) == "1st, 2nd, 3rd, 4th, 11th, 12th, 13th, 21st, 22nd, 23rd, 31st,"


def test_figures_alone_stand_where_they_mean_one_day() -> None:
    """Two rows that are written the same way would have to mean the same day."""
    meaning: dict[str, str] = {}
    for text, day in Dates(rows=36525).pairs()["all"]:
        assert meaning.setdefault(text, day) == day
        first, _, second = text.partition("/")
        if first.isdigit() and len(first) < 3:  # a day and a month, in whichever order
            figures = int(first), int(second.split("/")[0])
            assert max(figures) > 12 or figures[0] == figures[1]


def test_the_same_dates_for_every_seed() -> None:
    assert ready(Dates(rows=50, seed=1)).spec.sha256 == ready(Dates(rows=50, seed=2)).spec.sha256
    assert ready(Dates(rows=50, split_seed=1)).spec.sha256 != ready(Dates(rows=50)).spec.sha256


def test_a_row(tmp_path) -> None:
    lines = {"source": "ab\nabcd\n" * 10, "target": "x\nyzx\n" * 10}
    data = ready(Lines(level="char", **files(tmp_path, **lines)))
    assert data.spec.modality == "text_pairs" and data.spec.tasks == ("seq2seq",)
    assert data.spec.input_shape == (5,)  # abcd [EOS]
    assert data.spec.input.target_length == 5  # [BOS] yzx [EOS]
    batch = next(iter(data.val_dataloader()))
    for source, target in zip(batch["input"].tolist(), batch["target"].tolist(), strict=True):
        assert BOS not in source and source.count(EOS) == 1 and target[0] == BOS and target.count(EOS) == 1
        assert not any(source[source.index(EOS) + 1 :]) and not any(target[target.index(EOS) + 1 :])
    tokens = data.splits["train"]
    for token, count in enumerate(data.spec.input.token_counts):
        assert count == sum(int((column.tokens == token).sum()) for column in tokens.values())


def test_given_parts_are_kept_and_one_vocabulary_serves_both_sides(tmp_path) -> None:
    lines = {"source": "uno\ndos\n", "target": "one\ntwo\n"}
    lines |= {"val_source": "tres\n", "val_target": "three\n", "test_source": "a\n", "test_target": "b"}
    data = ready(Lines(level="char", **files(tmp_path, **lines)))
    assert read(data, "train", "input") == ["uno", "dos"] and read(data, "train", "target") == ["one", "two"]
    assert read(data, "val", "input") == ["t[UNK]es"]
    assert Tokenizer(data.spec.input.tokenizer).tokens()[6:] == sorted(set("unodosonetwo"))
    backwards = ready(Lines(level="char", reverse=True, **files(tmp_path, **lines)))
    assert read(backwards, "train", "input") == ["one", "two"]


def test_gzipped_files_and_signs_that_only_look_like_line_ends(tmp_path) -> None:
    lines = files(tmp_path, source="a\u2028b\r\n" * 10, target="x\x0cy\n" * 10)
    packed = tmp_path / "target.gz"
    packed.write_bytes(gzip.compress((tmp_path / "target").read_bytes()))
    data = ready(Lines(level="char", source_path=lines["source_path"], target_path=str(packed)))
    assert set(read(data, "train", "input")) == {"a\u2028b"}
    assert set(read(data, "train", "target")) == {"x\x0cy"}


def test_long_training_pairs_are_left_out_and_counted(tmp_path) -> None:
    lines = {"source": "abc\nabcdefgh\nab\na\n", "target": "x\ny\nxyxyxyxy\ny\n"}
    lines |= {"val_source": "abcabcabcabc\n", "val_target": "x\n", "test_source": "a\n", "test_target": "x\n"}
    data = ready(Lines(level="char", max_tokens=5, **files(tmp_path, **lines)))
    assert read(data, "train", "input") == ["abc", "a"]
    assert data.describe()["training_pairs_left_out"] == 2
    assert read(data, "val", "input") == ["abcabcabcabc"] and data.spec.input_shape == (13,)


def test_batches_by_length_keep_to_their_tokens(tmp_path) -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 30, (2, 400), generator=draw).tolist()
    lines = {
        name: "".join("a" * n + "\n" for n in side) for name, side in zip(("source", "target"), sizes, strict=True)
    }
    options = {"batch_size": 1000, "by_length": True, "batch_tokens": 200}
    data = ready(Lines(level="char", **options, **files(tmp_path, **lines)))
    rows = 0
    for batch in data.train_dataloader():
        rows += len(batch["input"])
        for column in ("input", "target"):
            assert batch[column].numel() <= 200
            assert (batch[column] != PAD).any(0).all()  # no wider than its longest row
    assert rows == data.spec.splits["train"]


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ({"source": "a\nb\nc\n", "target": "x\ny\n"}, {}, r"target has 2 lines, .*source has 3: line 3 of the longer"),
        ({"source": "a\n\nc\n", "target": "x\ny\nz\n"}, {}, r"data.source_path: .*source, line 2 is empty"),
        ({"source": "a\nb\n", "target": "x\n  \n"}, {}, r"data.target_path: .*target, line 2 is empty"),
        ({"source": "", "target": "x\n"}, {}, r"data.source_path: .*source is empty"),
        ({"source": "a\nb\n", "target": "x\ny\n"}, {}, "2 rows, too few"),
        ({"source": "a\n" * 9, "target": "x\n" * 9}, {"max_tokens": 2}, "data.max_tokens=2 must be at least 3"),
        (
            {"source": "aaaa\n" * 9, "target": "x\n" * 9},
            {"max_tokens": 3},
            "max_tokens=3: every training pair is longer",
        ),
        ({"source": "a\n"}, {}, "data.target_path: has no default"),
        ({"source": "a\n", "target": "x\n", "val_source": "a\n"}, {}, "data.val_target_path: has no default"),
        ({"source": "a\n", "target": "x\n", "test_target": "a\n"}, {}, "data.test_source_path: has no default"),
        ({}, {"source": "multi3k"}, "data.source=multi3k is no pair of texts.*multi30k"),
        (
            {},
            {"source_path": "missing.en", "target_path": "missing.de"},
            "data.source_path: .*missing.en cannot be read",
        ),
    ],
)
def test_bad_input_is_named_in_one_line(lines, options, message, tmp_path) -> None:
    with pytest.raises(UserError, match=message) as error:
        ready(Lines(level="char", **options, **files(tmp_path, **lines)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rows", [9, 36526])
def test_too_few_or_many_dates(rows: int) -> None:
    with pytest.raises(UserError, match=f"data.rows={rows}: from 10 to 36525"):
        Dates(rows=rows)


@pytest.mark.real_data
def test_multi30k(data_folder) -> None:
    options = {"level": "bpe", "max_tokens": 64, "by_length": True, "batch_tokens": 4096, "batch_size": 256}
    data = ready(Lines(source="multi30k", root=str(data_folder), **options))
    assert data.spec.splits == {"train": 29_000 - data.left_out, "val": 1014, "test": 1000}
    assert 0 <= data.left_out < 50
    assert len(data.spec.input.token_counts) == 8000
    assert read(data, "train", "input")[0] == "Two young, White males are outside near many bushes."
    assert read(data, "train", "target")[0] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
