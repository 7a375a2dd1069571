"""Files of a command: refused before any work, and whole or not there; optional packages; text for the terminal."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from rich.console import Console

from src.errors import UserError
from src.runtime import optional, output
from src.runtime.console import say
from src.runtime.format import duration, first_line, number, shorten, significant


def test_what_exists_is_refused_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    output.check(path, False)
    path.touch()
    output.check(path, True)
    with pytest.raises(UserError) as raised:
        output.check(path, False)
    assert str(raised.value) == f"output={path} exists: give another name, or force=true to write over it"
    with pytest.raises(UserError, match=r"^a\.csv exists: no$"):
        output.check(path, False, shown="a.csv", remedy="no")


def test_a_folder_has_to_be_there(tmp_path: Path) -> None:
    output.check_folder(tmp_path / "a.csv")
    path = tmp_path / "none" / "a.csv"
    with pytest.raises(UserError) as raised:
        output.check_folder(path, shown="none/a.csv")
    assert str(raised.value) == f"output=none/a.csv: there is no folder {path.parent}"


def test_a_folder_has_to_take_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=f"^output=a.csv: {tmp_path} cannot be written to$"):
        output.check_folder(tmp_path / "a.csv", shown="a.csv")


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, synced: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with output.replacing(path, suffix=".png", synced=synced) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".a.txt.")
        assert temporary.suffix == ".png"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with contextlib.suppress(ZeroDivisionError), output.replacing(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "new"


def test_texts_and_bytes_are_written(tmp_path: Path) -> None:
    for content in ("ä\n", b"\x00\xff"):
        output.write(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == (content if isinstance(content, bytes) else content.encode())


def test_a_missing_package_is_named_with_its_remedy() -> None:
    assert optional.has("json")
    optional.require("json", "never", for_="nothing")
    with pytest.raises(UserError) as raised:
        optional.require("no_such_package", optional.extra("hf"), for_="data=hf")
    assert str(raised.value) == "data=hf needs no_such_package: pip install 'labbook[hf]'"


def test_text_is_printed_as_it_is() -> None:
    file = io.StringIO()
    text = f"[bold]{'x' * 200} 1.5 /a/path[0]"
    say(Console(file=file, width=40), text)
    assert file.getvalue() == f"{text}\n"


def test_numbers_keep_the_formats_that_tables_and_live_views_have() -> None:
    values = [None, 0.0, 0.5, 123.456789, 1234.56789, 1e-5]
    assert [number(value) for value in values] == ["-", "0.0000", "0.5000", "123.4568", "1235", "1e-05"]
    assert [significant(value) for value in values] == ["-", "0", "0.5", "123.46", "1234.6", "1e-05"]
    assert [duration(seconds) for seconds in (1.23, 42.4, 187, 3723)] == ["1.2 s", "42 s", "3:07", "1:02:03"]


def test_long_names_are_cut() -> None:
    assert [shorten("abcdef", 6), shorten("abcdef", 4), shorten("abcdef", 5, "...")] == ["abcdef", "abc…", "ab..."]


def test_the_first_line_of_an_error_says_something() -> None:
    assert first_line(ValueError("\n  one \n two")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(ValueError("one"), "two\nthree") == "two"


def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "net"

    def write(content: str) -> None:
        with output.replacing(path) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
            if content == "half":
                raise UserError("half")

    write("old")
    write("new")
    assert [file.name for file in path.iterdir()] == ["new"]
    with pytest.raises(UserError, match="half"):
        write("half")
    assert [file.name for file in path.iterdir()] == ["new"] and list(tmp_path.iterdir()) == [path]
