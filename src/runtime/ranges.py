"""Ranges of options, said once in their annotations: `width: PositiveInt`, `share: Annotated[float, Gt(0), Lt(1)]`.

A configuration is checked against them before torch is imported (config/annotation.py reads them from the source);
`checked` does the same for a constructor that Python code calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import cache, wraps
from inspect import signature
from types import UnionType
from typing import Annotated, Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt

from src.errors import UserError

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
UnitFloat = Annotated[float, Interval(ge=0, le=1)]
Share = Annotated[float, Interval(ge=0, lt=1)]  # of what must not be all, such as a dropout

MARKERS: dict[str, Callable[..., Any]] = {"Ge": Ge, "Gt": Gt, "Interval": Interval, "Le": Le, "Lt": Lt}
_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("at least", lambda value, bound: value >= bound),
    "gt": ("above", lambda value, bound: value > bound),
    "le": ("at most", lambda value, bound: value <= bound),
    "lt": ("below", lambda value, bound: value < bound),
}
P = ParamSpec("P")
R = TypeVar("R")


def outside(value: float, markers: Collection[Any]) -> str | None:
    """Range that a number is outside of, such as `must be at least 1`; None where it is in the range.

    Args:
        markers: of `annotated_types`; others are ignored.
    """
    bounds = {
        name: bound for marker in markers for name in _BOUNDS if (bound := getattr(marker, name, None)) is not None
    }
    # this way round, as no comparison with NaN holds
    if all(_BOUNDS[name][1](value, bound) for name, bound in bounds.items()):
        return None
    if bounds.keys() == {"ge", "le"}:
        return f"must be between {bounds['ge']} and {bounds['le']}"
    return "must be " + " and ".join(f"{_BOUNDS[name][0]} {bounds[name]}" for name in _BOUNDS if name in bounds)


def refusal(value: Any, hint: Any) -> str | None:
    """Reason why a value is outside a type hint's ranges, those of a list's items included; None where it is not."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated and isinstance(value, int | float) and not isinstance(value, bool):
        return outside(value, hint.__metadata__)
    if origin in (Union, UnionType):
        return next((found for argument in arguments if (found := refusal(value, argument))), None)
    if arguments and isinstance(value, list | tuple):
        kinds = arguments if origin is tuple and ... not in arguments else [arguments[0]] * len(value)
        return each(refusal(item, kind) for item, kind in zip(value, kinds, strict=False))
    return None


def each(found: Iterable[str | None]) -> str | None:
    """Reason why a list is refused, from those of its items."""
    first = next((words for words in found if words), None)
    return first and first.replace("must be", "must each be", 1)


def checked(prefix: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a constructor or a function so that an option outside the range of its annotation is a UserError.

    Args:
        prefix: what the options belong to: `data` makes it "data.rows=0 must be at least 1".
    """

    def decorate(constructor: Callable[P, R]) -> Callable[P, R]:
        @cache  # at the first call: what the annotations name may be defined further down
        def limited() -> tuple[Any, dict[str, Any]]:
            return signature(constructor), get_type_hints(constructor, include_extras=True)

        @wraps(constructor)
        def constructed(*args: P.args, **options: P.kwargs) -> R:
            parameters, hints = limited()
            for name, value in parameters.bind_partial(*args, **options).arguments.items():
                if name in hints and (found := refusal(value, hints[name])):
                    raise UserError(f"{prefix}.{name}={value} {found}")
            return constructor(*args, **options)

        return constructed

    return decorate
