"""Runs a tracked run again, exactly or with changes: `python -m src.rerun run=last verify=true`."""

from src.commands import entry

main = entry("rerun")

if __name__ == "__main__":
    main()
