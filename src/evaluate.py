"""Computes a trained run's metrics again, with intervals, or on other data: `python -m src.evaluate run=last`."""

from src.commands import entry

main = entry("evaluate")

if __name__ == "__main__":
    main()
