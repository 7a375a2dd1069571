"""Predicts new rows with a trained run, from its checkpoint alone: `python -m src.predict run=last data.path=a.csv`."""

from src.commands import entry

main = entry("predict")

if __name__ == "__main__":
    main()
