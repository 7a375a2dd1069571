"""Numbers, durations and names as text."""

from __future__ import annotations

from collections.abc import Sequence


def number(value: float | None) -> str:
    """Four decimals, and four digits where those would say nothing or too much; `-` for None."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e3 else f"{value:.4g}"


def significant(value: float | None, digits: int = 5) -> str:
    """Format with so many significant digits, without zeros at the end; `-` for None.

    Unlike `number` it neither pads nor rounds by place, so that live values change their length as little as needed.
    """
    return "-" if value is None else f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """`42 s`, `3:07` or `1:02:03`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shorten(text: str, longest: int, end: str = "\u2026") -> str:
    """Text of at most `longest` characters; what is cut off ends in `end`."""
    return text if len(text) <= longest else f"{text[: longest - len(end)]}{end}"


def first_line(error: BaseException, text: str | None = None) -> str:
    """The first line of an error's text (or of `text`) that is not blank, or the name of its type."""
    lines = (line.strip() for line in (str(error) if text is None else text).splitlines())
    return next(filter(None, lines), type(error).__name__)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names, the first ones of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
