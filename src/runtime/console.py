"""Lines of text for the terminal."""

from __future__ import annotations

from rich.console import Console


def say(console: Console, text: object) -> None:
    """Print text as it is: not coloured, not wrapped, `[brackets]` taken as brackets.

    What a script reads from a pipe is then what a person sees.
    """
    console.print(text, highlight=False, soft_wrap=True, markup=False)
