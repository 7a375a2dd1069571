"""An episode of a trained policy, from its checkpoint alone: a picture that moves, and a table of its steps."""

from __future__ import annotations

from pathlib import Path

from src.errors import UserError
from src.inference.answers.base import Request, register_answer
from src.inference.load import Trained
from src.rl import environments
from src.runtime import output as outputs
from src.tasks.abilities import Policy
from src.tasks.control.view import Episode, episode, save_gif, save_table

FORMS = (".gif", ".csv")


@register_answer("control", no_rows="acts in {data} and predicts no rows: leave data.path and text out")
def play(trained: Trained, request: Request, *, seed: int) -> str:
    """Play an episode of a seed, into NAME.gif and NAME.csv, or into NAME.csv alone.

    Where no output is asked for by name, and the environment cannot be drawn, the table alone is written.

    Raises:
        UserError: an output that exists, an environment that cannot be made or drawn. Nothing is written.
    """
    picture = Path(request.output or "episode.gif").expanduser().absolute()
    if picture.suffix not in FORMS:
        raise UserError(f"output={request.output}: a name that ends in {' or '.join(FORMS)}")
    outputs.check_folder(picture, shown=request.output)
    table = picture.with_suffix(".csv")
    for path in {picture, table}:
        remedy = "give another output, or force=true to write over it"
        outputs.check(path, request.force, shown=str(path), remedy=remedy)
    environments.require()
    played = _played(trained, request, seed, wanted=picture != table)
    written = [table.name]
    try:
        if played.frames:
            written.insert(0, save_gif(picture, played).name)
        save_table(table, played, trained.model.spec.class_names)
    except OSError as error:
        raise UserError(f"output={picture} cannot be written ({error.strerror or error})") from None
    said = f"episode of seed {seed}: return {played.earned:g} in {len(played.steps)} steps"
    return f"{said}; {' and '.join(written)} in {picture.parent}"


def _played(trained: Trained, request: Request, seed: int, *, wanted: bool) -> Episode:
    """Play with frames where they are wanted and can be made; those that were asked for by name have to be."""
    policy = trained.model
    assert isinstance(policy, Policy)  # a model of this task
    try:
        return episode(policy, seed, pictures=wanted)
    except UserError as problem:
        if not wanted or request.output is not None:
            raise
        trained.notes.append(f"no picture: {problem}")
        return episode(policy, seed, pictures=False)
