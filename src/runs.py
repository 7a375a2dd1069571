"""Lists, shows, tags and deletes tracked runs: `python -m src.runs list`."""

from src.commands import entry

main = entry("runs")

if __name__ == "__main__":
    main()
