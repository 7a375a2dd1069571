"""Print a trained run's metrics again, with intervals, by class and with their calibration, or those on other data."""

from __future__ import annotations

from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from src.analysis import per_class
from src.analysis.explain import attribution
from src.errors import UserError
from src.experiment.run import quieten
from src.inference import evaluate as evaluation
from src.inference.load import load
from src.runtime.console import say


def evaluate(config: DictConfig) -> dict[str, float]:
    """Print the metrics and keep them among the run's artifacts.

    Returns:
        `test/NAME` of each metric.

    Raises:
        UserError: a run or data that cannot be used; nothing was written.
    """
    quieten()
    if not 0 < config.level < 1:
        raise UserError(f"level={config.level}: between 0 and 1, such as 0.95")
    if config.explain:
        attribution.require()
    console = Console()
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    trained = load(config.run, uri=plain["tracking"].get("uri"), device="cpu")
    options = {name: plain[name] for name in ("split", "resamples", "level", "seed", "device", "threads")}
    shown = partial(track, description="resampling", console=console, transient=True, disable=not console.is_terminal)
    found = evaluation.evaluate(trained, plain["data"], track=shown, **options)
    per_class.print_figures(console, found.values, found.logged, found.baseline, found.intervals, config.level)
    if found.classes is not None:
        per_class.print_classes(console, found.classes)
    folder = evaluation.keep(trained, found, plain)
    if config.explain:
        trained.notes += evaluation.explain(trained, found, folder)
    if folder is not None:
        evaluation.attach(trained, folder)
        say(console, f"kept in {folder}")
    for note in trained.notes:
        say(console, note)
    return found.values
