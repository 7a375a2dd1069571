"""Writes one page about a run or a sweep: `python -m src.report run=last`."""

from src.commands import entry

main = entry("report")

if __name__ == "__main__":
    main()
