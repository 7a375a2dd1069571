"""Runs a tracked run again, exactly or with changes: `python -m src.rerun run=last verify=true`."""

from src.commands import entry

# what else is given changes the run's configuration
main = entry("rerun", own=("run", "here", "verify", "tracking", "trust", "traceback", "debug"))

if __name__ == "__main__":
    main()
