"""What a better figure costs: the front of a comparison by one cost, as a table, a file and a picture."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pandas as pd
import pytest

from src.comparison.groups import Group
from src.comparison.leaderboard import Leaderboard, Row
from src.comparison.pareto import front
from src.errors import UserError
from tests.commands.test_compare import fill
from tests.conftest import Lab


def board(points: dict[str, tuple[float, float]], direction: str = "max") -> Leaderboard:
    """Of groups by name, each with its mean and its cost."""
    rows = [
        Row(Group({"model": name}, pd.Series([mean]), [name], {"flops": cost}), mean, float("nan"), None, 1.0, False)
        for name, (mean, cost) in points.items()
    ]
    return Leaderboard("test/accuracy", direction, 0.95, rows, ["model"], [], None, {})


POINTS = {"d": (0.9, 40.0), "a": (0.7, 10.0), "c": (0.7, 20.0), "b": (0.6, 10.0), "f": (0.95, 50.0), "e": (0.89, 45.0)}


def test_the_front_is_what_nothing_else_beats() -> None:
    for order in itertools.permutations(POINTS):
        found = front(board({name: POINTS[name] for name in order}), "cost/flops")
        assert [place.row.group.name for place in found.best] == ["model=a", "model=d", "model=f"]
        beaten = {place.row.group.runs[0]: place.beaten_by.group.runs[0] for place in found.places if place.beaten_by}
        assert beaten == {"b": "a", "c": "a", "e": "d"}
    less = front(board({name: (1 - mean, cost) for name, (mean, cost) in POINTS.items()}, "min"), "flops")
    assert [place.row.group.runs[0] for place in less.best] == ["a", "d", "f"]
    assert found.remark() == "front of test/accuracy by FLOPs: a (10), then d (40), then f (50)"


def test_a_cost_that_is_none_is_one_line() -> None:
    with pytest.raises(UserError, match=r"pareto=cost/flop: no cost \(did you mean flops\?\)"):
        front(board(POINTS), "cost/flop")
    with pytest.raises(UserError, match="pareto=energy_joules: none of the runs has cost/energy_joules"):
        front(board(POINTS), "energy_joules")


def test_the_command_shows_and_draws_the_front(lab: Lab) -> None:
    fill(lab.uri, lab.folder)
    done = lab.run("compare", "pareto=cost/parameters", "output=front.png")
    assert done.code == 0, done.err
    assert "front of test/accuracy by parameters: 8 0.01 (800), then 64 0.01 (6,400)" in done.out
    assert (lab.folder / "front.png").read_bytes()[:4] == b"\x89PNG" and list(lab.folder.glob(".front*")) == []
    done = lab.run("compare", "pareto=parameters", "format=csv")
    frame = pd.read_csv(io.StringIO(done.out))
    assert list(frame["front"]) == [True, True, False] and list(frame["parameters"]) == [800, 6400, 6400]
    assert list(frame["model.width"]) == [8, 64, 64] and frame["beaten_by"][2] == "64 0.01"
    for arguments, message in (
        (["pareto=flops", "output=front.png"], "output=front.png exists"),
        (["output=other.png"], "output=other.png: ends in .csv, .json, .md, .html"),
        (["pareto=flops", "output=page.html"], "output=page.html: the page shows all costs, without pareto="),
        (["pareto=speed"], "pareto=speed: no cost (known: energy_joules, flops, parameters, seconds)"),
    ):
        done = lab.run("compare", *arguments)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
    assert not Path(lab.folder / "other.png").exists()
