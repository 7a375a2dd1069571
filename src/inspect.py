"""Looks at data before anything is trained on it: `python -m src.inspect data=csv data.path=my.csv data.target=y`."""

from src.commands import entry

main = entry("inspect")

if __name__ == "__main__":
    main()
