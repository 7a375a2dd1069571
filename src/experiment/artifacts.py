"""What a finished run leaves behind: pictures and tables among its files, the results on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from src.data.core.modality import modality_of
from src.data.text.modality import token_names
from src.experiment import terminal
from src.spec import ImageSpec
from src.tasks import terminal as task_terminal
from src.tasks import view
from src.tasks.abilities import Attends

Split = Mapping[str, Any]  # columns that an index (B,) takes rows from
Worst = Sequence[tuple[int, float]]  # (row, loss), the largest loss first


def report(
    console: Console,
    model: Any,
    baseline: Mapping[str, float],
    epoch: int,
    to_predict: Mapping[str, Tensor] | None = None,
) -> None:
    """The table of results and, for a few raw rows, predictions.

    Args:
        epoch: whose weights were chosen.
    """
    best = {name: model.best(name) for name in model.history if name.startswith("val/")}
    terminal.print_results(console, model.history, best, baseline, epoch)
    if to_predict is None:
        return
    model.eval()
    with torch.inference_mode():
        predictions, targets = model.decode_for_display(
            {name: tensor.to(model.device) for name, tensor in to_predict.items()}
        )
    task_terminal.print_shown(console, model.spec, model.task.name, predictions, targets)


def leave(folder: Path, model: Any, split: Split, curves: Mapping[str, Any], worst: Worst, name: str) -> list[str]:
    """Draws and writes what there is to be seen of a trained model; what cannot be made spoils nothing else.

    Args:
        folder: the run's own.
        part: whose examples are shown, the test split or else that of validation.
        curves: of the test, as `save_figures` takes them.
        hardest: rows of the part with the largest losses; empty without a test.
        name: the part's.

    Returns:
        A line for each thing that could not be made, and one that says where the others are; before them what the
        attributions, where the config asks for them, are worth.
    """
    from src.plots.curves import save_figures  # matplotlib: not before it is needed

    model.eval()
    making: dict[str, Callable[[], Any]] = {
        "curves": partial(save_figures, folder / "figures", model.history, curves, model.spec.class_names),
        "attention": partial(_attention, folder, model, split, name),
        "forecasts": partial(_forecasts, folder, model, split, worst, name),
        "detections": partial(_detections, folder, model, split, worst, name),
        "codes": partial(_codes, folder, model, split, worst),
        "pairs": partial(_pairs, folder, model, split),
        "worst examples": partial(_worst_examples, folder, model, split, worst),
        "episode.gif": partial(_episode, folder, model, split),
    }
    said: list[str] = []
    if model.config.get("explain"):
        from src.analysis.explain import figures

        explain = partial(figures.save_all, folder / "figures", model, split, worst, name)
        making["attributions"] = lambda: said.extend(explain())
    problems = [] if model.worst_examples.problem is None else [f"worst examples: none, {model.worst.problem}"]
    for what, make in making.items():
        try:
            with torch.inference_mode():
                make()
        except Exception as error:  # the run is done, whatever a picture of a strange dataset comes to
            problems.append(f"{what}: none, {type(error).__name__}: {error}".splitlines()[0])
    written = [path.name for pattern in ("*.csv", "figures") for path in sorted(folder.glob(pattern))]
    return said + problems + ([f"{', '.join(written)} in {folder}"] if written else [])


def _rows(split: Split, rows: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Those rows as a batch."""
    index = torch.tensor(rows)
    return {name: column[index].to(device) for name, column in split.items()} | {"index": index.to(device)}


def _attention(folder: Path, model: Any, split: Split, name: str) -> None:
    """One figure for each kind of attention, of the part's first row."""
    from src.plots import examples
    from src.plots.base import save

    if not isinstance(model, Attends):
        return
    batch = _rows(split, [0], model.device)
    title = f"row 0 of {name}"
    for kind, (weights, queries, keys, patch_size) in model.attention(batch).items():
        weights = weights[:, 0].float().cpu()  # (layers, heads, T, S)
        if queries is not None:
            labels = [token_names(model.spec.input.tokenizer, ids[0].tolist()) for ids in (queries, keys)]
            figure = examples.attention(weights.numpy(), *labels, title)
        elif isinstance(model.spec.input, ImageSpec):
            image = batch["input"][0].cpu()
            grid = tuple(-(-side // patch_size) for side in image.shape[1:])
            # to each patch: from the additional one, which the head sees, or on average from all
            additional = weights.shape[-1] - grid[0] * grid[1]
            seen = weights[..., 0, additional:] if additional else weights.mean(-2)
            figure = examples.attention_on_image(image.numpy(), seen.unflatten(-1, grid).numpy(), patch_size, title)
        else:
            patches = [f"{start}" for start in range(0, model.spec.input_shape[0], patch_size)]
            patches = ["[first]"] * (weights.shape[-1] - len(patches)) + patches
            figure = examples.attention(weights.numpy(), patches, patches, title)
        save(folder / "figures" / f"{kind}.png", figure)


def _forecasts(folder: Path, model: Any, split: Split, worst: Worst, name: str) -> None:
    """Of a horizon of one step the windows in a row; of a longer one the first, the middle and the hardest window."""
    if model.task.name != "forecasting":
        return
    from src.plots import examples
    from src.plots.base import save

    count, task, names = len(split["input"]), model.task, model.spec.input.feature_names
    rolling = model.spec.target.steps == 1
    worst = worst[0][0] if worst else count - 1
    rows = list(range(min(count, examples.ROLLING))) if rolling else list(dict.fromkeys([0, count // 2, worst]))
    batch = _rows(split, rows, model.device)
    prediction = task.predict(model.outputs(batch))
    values = (batch["input"], batch["target"], prediction, task.naive(batch["input"]))
    context, truth, forecast, naive = (tensor.float().cpu().numpy() for tensor in values)
    if rolling:
        figure = examples.rolling_forecasts(truth[:, 0], forecast[:, 0], naive[:, 0], names)
    else:
        titles = [f"row {row} of {name}{', largest loss' if worst and row == worst else ''}" for row in rows]
        figure = examples.forecasts(context, truth, forecast, naive, names, titles)
    save(folder / "figures" / "forecasts.png", figure)


def _detections(folder: Path, model: Any, split: Split, worst: Worst, name: str) -> None:
    """The first images of the part and the hardest ones, with what was found and what is there."""
    if model.task.name != "detection":
        return
    from src.plots.base import save
    from src.tasks.detection import view as detections

    first = range(min(len(split["input"]), detections.SHOWN // 2))
    rows = list(dict.fromkeys([*first, *(row for row, _ in worst)]))[: detections.SHOWN]
    batch = _rows(split, rows, model.device)
    predictions, targets = model.decode_for_display(batch)
    worst = {row for row, _ in worst}
    titles = [f"{name} {row}{', large loss' if row in worst and row not in first else ''}" for row in rows]
    figure = detections.figure(model.spec, batch["input"].cpu(), predictions.cpu(), targets.cpu(), titles)
    save(folder / "figures" / "detections.png", figure)


def _episode(folder: Path, model: Any, split: Split) -> None:
    """What is seen and done in the part's first episode."""
    if model.task.name != "control":
        return
    from src.tasks.control import view as episodes

    episodes.leave(folder / "figures", model, int(split["seed"][0]))


def _codes(folder: Path, model: Any, split: Split, worst: Worst) -> None:
    if model.task.name not in task_terminal.SCORED:
        return
    from src.tasks.reconstruction import view as codes

    codes.save_all(folder / "figures", model, split, worst)


def _pairs(folder: Path, model: Any, split: Split) -> None:
    if model.task.name != "verification":
        return
    from src.tasks.verification import view as pairs

    pairs.save_all(folder / "figures", model, split)


def _worst_examples(folder: Path, model: Any, split: Split, worst: Worst) -> None:
    """A table, and a picture of the images; forecasts and detections have pictures of their own."""
    if not worst or model.task.name in ("forecasting", "detection"):
        return
    spec = model.spec
    batch = _rows(split, [row for row, _ in worst], model.device)
    predictions, targets = model.decode_for_display(batch)
    judge = view.scored if model.task.name in task_terminal.SCORED else view.judged
    found = judge(spec, predictions.cpu(), None if targets is None else targets.cpu())
    content = view.content(spec, model.task.name, batch["input"].cpu())
    rows = [
        [row, f"{loss:.6g}", *answer.values(), *example.values()]
        for (row, loss), answer, example in zip(worst, found, content, strict=True)
    ]
    # lists, since a table of the user's own may have a column of the same name
    view.write(folder / "worst_examples.csv", ["row", "loss", *found[0], *content[0]], rows)
    if isinstance(spec.input, ImageSpec):
        from src.plots.base import save, short
        from src.plots.examples import gallery

        titles = []
        for answer in found:
            probability = f" ({float(answer.pop('probability')):.2f})" if "probability" in answer else ""
            lines = (f"{name} {short(value, 14 if name == 'predicted' else 20)}" for name, value in answer.items())
            titles.append("\n".join(lines) + probability)
        modality = modality_of(spec)
        images = modality.upright(batch["input"].cpu().numpy())
        save(folder / "figures" / "worst_examples.png", gallery(images, titles, modality.axes))
