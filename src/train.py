"""Trains one model, tests its best checkpoint, and tracks the run: `python -m src.train model=cnn`."""

from src.commands import entry

main = entry("train")

if __name__ == "__main__":
    main()
