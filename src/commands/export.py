"""Write a trained model as a file that other programs take, or as an MLflow model of its run."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from src.errors import UserError
from src.inference import export as exports
from src.inference.load import load
from src.runtime import output as outputs
from src.runtime.console import say


def export(config: DictConfig) -> None:
    """Write a run's model in another form.

    Raises:
        UserError: a run or an output that cannot be used, a model that has no graph, a package that is missing.
    """
    if (config.register is not None or config.alias is not None) and config.format != "mlflow":
        raise UserError("register and alias are for format=mlflow, which the registry takes")
    if config.alias is not None and config.register is None:
        raise UserError("alias: of which registered model? register=NAME")
    if config.format == "mlflow" and config.output is not None:
        raise UserError(f"output={config.output}: an MLflow model lies in its run; output is for the other formats")
    output = (
        Path(config.output or f"model.{exports.SUFFIXES.get(config.format, config.format)}").expanduser().absolute()
    )
    if config.format != "mlflow":
        outputs.check(output, config.force)
        outputs.check_folder(output)
    console = Console()
    trained = load(config.run, uri=config.tracking.get("uri"), device="cpu")
    if config.format == "mlflow":
        uri = exports.log(trained, config.register, config.alias)
        store = trained.run.uri if trained.run else ""
        serve = f"MLFLOW_TRACKING_URI={store} mlflow models serve --env-manager local -m {uri}"
        for line in (f"{uri}; to serve it:", f"  {serve}"):
            say(console, line)
        return
    exports.write(trained, config.format, output)
    size = sum(path.stat().st_size for path in (output, *output.rglob("*")))
    say(console, f"{output} ({size / 1e6:.1f} MB)")
