"""Writes a trained model as a file that other programs take, or as an MLflow model: `python -m src.export run=last`."""

from src.commands import entry

main = entry("export")

if __name__ == "__main__":
    main()
