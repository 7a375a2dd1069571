"""Looks at a sweep, goes on with it, or ends it: `python -m src.sweep status|resume|cancel SWEEP`."""

from src.commands import entry

main = entry("sweep")

if __name__ == "__main__":
    main()
