"""An episode of a trained policy, from its checkpoint alone: a picture that moves, and a table of its steps."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from src.errors import UserError
from src.inference.answers.base import NOTHING_ASKED
from src.inference.load import load
from src.rl import environments
from src.runtime import output as outputs
from src.runtime.console import say
from src.tasks.control.view import Episode, episode, save_gif, save_table

FORMS = (".gif", ".csv")


def play(config: DictConfig) -> None:
    """Plays an episode of `seed`, into NAME.gif and NAME.csv, or into NAME.csv alone.

    Where no output is asked for by name, and the environment cannot be drawn, the table alone is written.

    Raises:
        UserError: a run that is no policy, an output that exists, an environment that cannot be made or drawn.
            Nothing is written.
    """
    picture = Path(config.output or "episode.gif").expanduser().absolute()
    trained = load(config.run, uri=config.tracking.get("uri"), device=config.device)
    model = trained.model
    if model.task.name != "control":
        raise UserError(NOTHING_ASKED)
    if picture.suffix not in FORMS:
        raise UserError(f"output={config.output}: a name that ends in {' or '.join(FORMS)}")
    outputs.check_folder(picture, shown=config.output)
    table = picture.with_suffix(".csv")
    for path in {picture, table}:
        remedy = "give another output, or force=true to write over it"
        outputs.check(path, config.force, shown=str(path), remedy=remedy)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    environments.require()
    played = _played(model, config, wanted=picture != table)
    written = [table.name]
    try:
        if played.frames:
            written.insert(0, save_gif(picture, played).name)
        save_table(table, played, model.spec.class_names)
    except OSError as error:
        raise UserError(f"output={picture} cannot be written ({error.strerror or error})") from None
    said = f"episode of seed {config.seed}: return {played.earned:g} in {len(played.steps)} steps"
    say(Console(), f"{said}; {' and '.join(written)} in {picture.parent}")


def _played(model: object, config: DictConfig, *, wanted: bool) -> Episode:
    """With pictures where they are wanted and can be made; those that were asked for by name have to be."""
    try:
        return episode(model, config.seed, pictures=wanted)
    except UserError as problem:
        if not wanted or config.output is not None:
            raise
        say(Console(), f"no picture: {problem}")
        return episode(model, config.seed, pictures=False)
