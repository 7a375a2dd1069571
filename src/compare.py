"""Compares tracked runs: a leaderboard with statistics, or how two runs differ: `python -m src.compare sweep=last`."""

from src.commands import entry

main = entry("compare")

if __name__ == "__main__":
    main()
