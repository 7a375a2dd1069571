"""One page about a run or a sweep, to send to a colleague: question, result, data, pictures, cost, provenance."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from src import tracking
from src.errors import UserError
from src.pages.run import of_run, reevaluated
from src.pages.sweep import of_sweep
from src.sweeps.jobs.ledger import Ledger


def report(config: DictConfig) -> None:
    """Writes the page.

    Raises:
        UserError: a run or a sweep that is not there, an output that cannot be used.
    """
    console, uri = Console(), config.tracking.get("uri")
    if (config.run is None) == (config.sweep is None):
        raise UserError("say what the report is about: run=ID or sweep=ID")
    output = Path(config.output)
    if output.suffix not in (".html", ".md"):
        raise UserError(f"output={output}: ends in .html or .md")
    if output.exists() and not config.force:
        raise UserError(f"output={output} exists: give another name, or force=true to write over it")
    if not output.parent.is_dir():
        raise UserError(f"output={output}: there is no folder {output.parent}")
    if config.run is not None:
        run = tracking.find_run(config.run, uri=uri)
        document = of_run(run, reevaluated(run, config, console))
    else:
        document = of_sweep(Ledger.named(tracking.place(uri), config.sweep), uri)
    text = document.html() if output.suffix == ".html" else document.markdown(output.with_name(f"{output.stem}_files"))
    new = output.with_name(f".{output.name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    os.replace(new, output)
    console.print(f"written to {output}", highlight=False, soft_wrap=True)
