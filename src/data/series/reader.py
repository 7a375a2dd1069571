"""Reader of csv files with a column of times and columns of numbers, which checks order and gaps of the times."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from src.data.core.files import read_text
from src.errors import UserError, suggest

Gaps = Literal["error", "allow"]

_EPOCH = datetime(1970, 1, 1)
_MONTH = re.compile(r"(\d{4})[-/](\d{1,2})")


class Timetable(NamedTuple):
    """A series as it stands in a file.

    Attributes:
        values: of each row and column (T, F), float64.
        columns: names (F,).
        lines: of the file, for each row (T,).
        times: as they stand in the file (T,).
    """

    values: np.ndarray
    columns: tuple[str, ...]
    lines: tuple[int, ...]
    times: tuple[str, ...]


def read_timetable(path: Path, time: str, columns: Sequence[str] | None, gaps: Gaps) -> Timetable:
    """Read the columns asked for, or all but the times, of a csv file with a header.

    Raises:
        UserError: a file that is missing or has no rows, a column that is not there, a cell that is no number, times
            that are no times, repeat, go back, or (unless `gaps` is allow) leave out steps; the line is named.
    """
    reader = csv.reader(read_text(path).splitlines())
    header = [name.strip() for name in next(reader)]
    columns = [name for name in header if name != time] if columns is None else list(columns)
    for name in (time, *columns):
        if name not in header:
            raise UserError(f"data: {path} has no column {name}{suggest(name, header)}")
    if not columns:
        raise UserError(f"data: {path} has no column beside {time}")
    places = [header.index(name) for name in columns]
    times, values, lines = [], [], []
    for row in reader:
        if not row:
            continue
        where = f"data: {path}, line {reader.line_num}"
        if len(row) != len(header):
            raise UserError(f"{where}: {len(row)} cells, the header has {len(header)}")
        times.append(row[header.index(time)].strip())
        values.append([_number(row[place], f"{where}, column {header[place]}") for place in places])
        lines.append(reader.line_num)
    if not values:
        raise UserError(f"data: {path} has a header and no rows")
    _check_steps(_moments(times, lines, path, time), times, lines, path, gaps)
    return Timetable(np.array(values), tuple(columns), tuple(lines), tuple(times))


def following(times: Sequence[str], count: int) -> list[str]:
    """The times after the last one of a file, a usual step apart and in its form; none where no step is usual."""
    try:
        moments = _moments(list(times), list(range(len(times))), Path(), "")
        sizes, counts = np.unique(np.diff(moments), return_counts=True)
    except UserError:
        return []
    if not len(sizes):
        return []
    step, last = float(sizes[counts.argmax()]), times[-1]
    return [_written(last, step * (i + 1), monthly=_is_monthly(times)) for i in range(count)]


def _is_monthly(times: Sequence[str]) -> bool:
    if _MONTH.fullmatch(times[0]):
        return True
    try:
        return all(_starts_month(time) for time in times)
    except ValueError:
        return False


def _written(last: str, ahead: float, monthly: bool) -> str:
    """The time so many units (numbers, months or seconds) after the last one, in its form."""
    if monthly:
        month = int(_month(last[:7]) + ahead) - 1
        return f"{month // 12:04}{last[4]}{month % 12 + 1:02}{last[7:]}"
    try:
        number = float(last) + ahead
        return str(int(number)) if number.is_integer() and "." not in last else f"{number:g}"
    except ValueError:
        moment = datetime.fromisoformat(last) + timedelta(seconds=ahead)
    if len(last) == 10 and (moment.hour, moment.minute, moment.second) == (0, 0, 0):
        return moment.date().isoformat()
    return moment.isoformat(sep="T" if "T" in last else " ", timespec="minutes" if len(last) == 16 else "auto")


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise UserError(f"{where}: {cell!r} is not a number")
    return value


def _moments(times: list[str], lines: list[int], path: Path, column: str) -> np.ndarray:
    """Times as numbers: as given, or months, or seconds, whichever form the first one has."""
    for form in (float, _month, _second):
        try:
            form(times[0])
        except ValueError:
            continue
        return _read_all(form, times, lines, path, column)
    return _read_all(_second, times, lines, path, column)


def _read_all(form: Callable[[str], float], times: list[str], lines: list[int], path: Path, column: str) -> np.ndarray:
    moments = []
    for time, line in zip(times, lines, strict=True):
        try:
            moments.append(form(time))
        except ValueError:
            example = {float: "12", _month: "1949-01"}.get(form, "2016-07-01 13:00:00")
            raise UserError(
                f"data: {path}, line {line}, column {column}: {time!r} is no time such as {example}"
            ) from None
    if form is _second and _is_monthly(times):
        moments = [_month(time[:7]) for time in times]  # whose lengths differ
    return np.array(moments)


def _month(time: str) -> float:
    match = _MONTH.fullmatch(time)
    if match is None or not 1 <= int(match[2]) <= 12:
        raise ValueError(time)
    return 12 * int(match[1]) + int(match[2])


def _second(time: str) -> float:
    moment = datetime.fromisoformat(time)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH).total_seconds()


def _starts_month(time: str) -> bool:
    moment = datetime.fromisoformat(time)
    return (moment.day, moment.hour, moment.minute, moment.second) == (1, 0, 0, 0) and time[4:5] == "-"


def _check_steps(moments: np.ndarray, times: list[str], lines: list[int], path: Path, gaps: Gaps) -> None:
    steps = np.diff(moments)
    sizes, counts = np.unique(steps, return_counts=True)
    usual = sizes[counts.argmax()] if len(sizes) else 0
    wrong = steps <= 0 if gaps == "allow" or usual <= 0 else steps != usual
    if not wrong.any():
        return
    row = int(wrong.argmax()) + 1
    where, before = f"data: {path}, line {lines[row]}", times[row - 1]
    if steps[row - 1] == 0:
        raise UserError(f"{where}: the time {times[row]} stands there twice, each may do so once")
    if steps[row - 1] < 0:
        raise UserError(f"{where}: the time {times[row]} comes after {before}: sort the rows by time")
    raise UserError(
        f"{where}: {times[row]} comes after {before}, which is not the usual step: fill the gap in, or set "
        "data.gaps=allow where the rows are what counts"
    )
