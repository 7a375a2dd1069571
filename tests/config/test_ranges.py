"""Ranges of options: said in annotations, refused in one line from a configuration and from Python alike."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt

from src.config.annotation import understand
from src.config.signature import locate
from src.errors import UserError
from src.runtime import ranges
from src.runtime.ranges import NonNegativeInt, PositiveInt, checked, outside, refusal
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("markers", "bad", "words", "good"),
    [
        ((Ge(1),), 0, "must be at least 1", 1),
        ((Gt(0),), 0, "must be above 0", 0.1),
        ((Le(5),), 6, "must be at most 5", 5),
        ((Lt(5),), 5, "must be below 5", 4),
        ((Gt(0), Lt(1)), 1, "must be above 0 and below 1", 0.5),
        ((Interval(ge=0, le=1),), 1.5, "must be between 0 and 1", 1),
        ((Interval(ge=0, lt=1),), 1, "must be at least 0 and below 1", 0),
        ((Ge(1),), math.nan, "must be at least 1", math.inf),
        ((), 0, None, 0),
    ],
    ids=str,
)
def test_a_range_in_words(markers: tuple[Any, ...], bad: float, words: str | None, good: float) -> None:
    assert outside(bad, markers) == words
    assert outside(good, markers) is None


HINTS = [
    ("PositiveInt", 0, "must be at least 1"),
    ("PositiveInt | None", None, None),
    ("PositiveInt | None", -3, "must be at least 1"),
    ("list[PositiveInt]", [4, 0], "must each be at least 1"),
    ("list[PositiveInt] | None", [4, 2], None),
    ("tuple[PositiveInt, UnitFloat]", [1, 0.5], None),
    ("tuple[PositiveInt, UnitFloat]", [1, 2.0], "must each be between 0 and 1"),
    ("Share", 1.0, "must be at least 0 and below 1"),
    ("bool | PositiveInt", False, None),
    ("PositiveFloat | str", "x", None),
]


@pytest.mark.parametrize(("hint", "value", "words"), HINTS, ids=str)
def test_source_and_object_say_the_same(hint: str, value: object, words: str | None) -> None:
    module = locate(ranges.__name__)[0]
    assert module is not None
    kind = understand(ast.parse(hint, mode="eval").body, module)
    assert kind.accepts(value) and kind.outside(value) == words
    assert refusal(value, eval(hint, vars(ranges))) == words


class Base:
    @checked("model")
    def __init__(self, *, width: PositiveInt, share: Annotated[float, Gt(0), Lt(1)] = 0.5) -> None:
        self.width, self.share = width, share


class Derived(Base):
    @checked("model")
    def __init__(self, depth: NonNegativeInt = 0, **options: Any) -> None:
        super().__init__(**options)
        self.depth = depth


def test_a_constructor_checks_its_own_options_and_its_base_those_of_the_base() -> None:
    made = Derived(2, width=3)
    assert (made.depth, made.width, made.share) == (2, 3, 0.5)
    for arguments, options, message in (
        ((-1,), {"width": 1}, "model.depth=-1 must be at least 0"),
        ((), {"width": 0}, "model.width=0 must be at least 1"),
        ((), {"width": 1, "share": 1.0}, "model.share=1.0 must be above 0 and below 1"),
    ):
        with pytest.raises(UserError) as error:
            Derived(*arguments, **options)
        assert str(error.value) == message
    with pytest.raises(TypeError):
        Derived(wdth=1)


def test_a_value_out_of_range_is_refused_without_torch() -> None:
    code = (
        "import sys\n"
        "from src.config import compose\n"
        "from src.errors import UserError\n"
        "try: compose(['model=rnn', 'model.hidden_size=0'])\n"
        "except UserError as error: print(error, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "model.hidden_size=0 must be at least 1 False"
