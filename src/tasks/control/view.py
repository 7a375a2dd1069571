"""View of a policy: an episode, its steps as a table and as curves, and a picture that moves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from src import plots
from src.errors import UserError
from src.rl import environments
from src.rl.environments import Step
from src.runtime import output
from src.spec import EnvironmentSpec
from src.tasks.abilities import Policy
from src.tasks.view import Examples, Maker, RowView, write

FRAMES = 250  # of the moving picture at most
WIDTH = 300  # pixels


class Episode(NamedTuple):
    """Record of an episode: its steps and its pictures.

    Attributes:
        steps: in order.
        frames: empty where no picture was asked for.
        milliseconds: between two frames.
    """

    steps: list[Step]
    frames: list[Image.Image]
    milliseconds: int

    @property
    def earned(self) -> float:
        """The return: the sum of all rewards."""
        return sum(step.reward for step in self.steps)


class EpisodeView(RowView):
    """The action a row: predictions are numbers of actions (N,)."""

    def figures(self, examples: Examples) -> dict[str, Maker]:
        """The split's first episode; no row is judged alone, and so none is the worst."""
        return {"episode.gif": partial(self._episode, examples)} if isinstance(examples.model, Policy) else {}

    def _episode(self, examples: Examples, folder: Path) -> None:
        """episode.png, the curves, and `episode.gif` where the environment can be drawn.

        Raises:
            UserError: it cannot; the curves are there.
        """
        folder, model, seed = folder / "figures", examples.model, int(examples.split["seed"][0])
        assert isinstance(model, Policy)
        problem = None
        try:
            played = episode(model, seed, pictures=True)
        except UserError as error:
            played, problem = episode(model, seed, pictures=False), error
        title = f"episode of seed {seed} in {self.spec.name}: return {played.earned:g} in {len(played.steps)} steps"
        observations = torch.stack([step.observation for step in played.steps]).numpy()
        taken, rewards = [step.action for step in played.steps], [step.reward for step in played.steps]
        plots.base.save(folder / "episode.png", plots.episodes.steps(observations, taken, rewards, title))
        if problem is not None:
            raise problem
        save_gif(folder / "episode.gif", played)


def episode(model: Policy, seed: int, *, pictures: bool) -> Episode:
    """Plays one.

    Raises:
        UserError: the environment cannot be made, or draws no pictures.
    """
    environment = model.spec.input_as(EnvironmentSpec)
    name, limit = environment.id, environment.max_steps
    every = -(-limit // FRAMES)
    steps: list[Step] = []
    frames: list[Image.Image] = []

    def keep(pixels: np.ndarray) -> None:
        frame = Image.fromarray(pixels)
        if frame.width > WIDTH:
            frame = frame.resize((WIDTH, round(frame.height * WIDTH / frame.width)), Image.Resampling.BOX)
        frames.append(frame.quantize(64))

    with torch.inference_mode():
        picture = keep if pictures else None
        environments.play(name, limit, [seed], model.act, watch=steps.append, picture=picture, every=every)
    return Episode(steps, frames, round(1000 * every / environments.pictures_per_second(name)))


def save_gif(path: Path, played: Episode) -> Path:
    """Under another name first, so that there is never half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = played.frames
    with output.replacing(path) as temporary:
        first.save(temporary, "gif", save_all=True, append_images=others, duration=played.milliseconds, loop=0)
    return path


def save_table(path: Path, played: Episode, actions: Sequence[str]) -> Path:
    """A row a step: what was seen before it, what was done, and what that earned."""
    header = ["step", *(f"observation {i}" for i in range(len(played.steps[0].observation))), "action", "reward"]
    rows = [
        [number, *(f"{value:.6g}" for value in step.observation.tolist()), actions[step.action], step.reward]
        for number, step in enumerate(played.steps, start=1)
    ]
    return write(path, header, rows)
