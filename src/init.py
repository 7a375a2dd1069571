"""Makes a project of one's own: `python -m src.init mylab`."""

from src.commands import entry

main = entry("init")

if __name__ == "__main__":
    main()
