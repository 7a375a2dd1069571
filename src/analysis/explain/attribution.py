"""Attributions of a prediction to columns, pixels, tokens or items, and the test of whether they mean anything.

Methods are Captum's (Kokhlikyan et al. 2020, arXiv:2009.07896), which is imported when it is asked for and not before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.analysis.explain.targets import confidence, numeric, predicted, score
from src.data.core.modality import modality_of
from src.models.base import Model
from src.runtime import optional
from src.tasks.abilities import EmbedsTokens

STEPS = 32  # of the integral, by Gauss and Legendre
NUMBERS = 2**18  # of inputs that are integrated over at once
SHARES = 20  # steps of a deletion
ORDERS = 3  # random ones that a deletion is compared with
GRID = 4  # cells each way of the coarsest map that Grad-CAM is taken of: 2 x 2 would say nothing of where
STRONGEST = 3  # columns that are named beside a prediction


def require() -> None:
    """Check that Captum is installed.

    Raises:
        UserError: it is not.
    """
    optional.require("captum", "pip install captum", for_="explain=true")


def attributions(model: Model, x: Tensor) -> dict[str, Tensor]:
    """Attributions of the output for the predicted class (a logit), or of the predicted number, by method.

    Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv:1703.01365) for numbers, images, series and embedded
    tokens; for images also occlusion (Zeiler and Fergus 2013, arXiv:1311.2901) and, of convolutional nets, Grad-CAM
    (Selvaraju et al. 2016, arXiv:1610.02391). A table with categories is explained by taking away one column after
    the other, and a list of items by taking away one item of the history after the other, since there is no gradient
    through a code. What is taken away becomes `baseline`.

    Args:
        model: in evaluation mode; neither it nor torch's random state is changed.
        x: raw rows (B, ...).

    Returns:
        On the CPU: (B, F) of a table, (B, H, W) of images, (B, T) of tokens, (B, T, F) of series, (B, L) of a user's
        history. Numbers are in standard units of the target.
    """
    with _gradients():
        x = _floating(model, x)
        chosen = predicted(model, x)
        return {name: method(x, chosen).detach().float().cpu() for name, method in _methods(model, x).items()}


def baseline(model: Model, x: Tensor) -> Tensor:
    """Values that stand for nothing, (1, ...) or as x: the training mean, or 0 where the data comes in standard units;
    of categories and tokens the unknown one; special tokens stay as they are.
    """
    return modality_of(model.spec).baseline(x, model.input_mean)


# methods -------------------------------------------------------------------------------------------------------------


@contextmanager
def _gradients() -> Iterator[None]:
    """Gradients in the midst of inference; cuDNN has none for recurrent nets in evaluation."""
    cudnn = torch.backends.cudnn.flags(enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), cudnn, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum's, of gradients that it asks for
        yield


def _floating(model: Model, x: Tensor) -> Tensor:
    """Copy on the model's device that a gradient can be taken of, where it is not of tokens."""
    x = x.to(model.device).clone()
    return x if modality_of(model.spec).is_embedded else x.to(model.head_dtype)


def _methods(model: Model, x: Tensor) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    modality = modality_of(model.spec)
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    for name in modality.methods:
        if name == "integrated gradients":
            found[name] = partial(_embedded_gradients if modality.is_embedded else _integrated_gradients, model)
        elif name == "ablation":
            found[name] = partial(_ablation, model)
        elif name == "occlusion":
            found[name] = partial(_occlusion, model)
        elif (layer := last_convolution(model, x[:1])) is not None:
            found[name] = partial(_grad_cam, model, layer)
    return found


def _integrated_gradients(model: Model, x: Tensor, chosen: Tensor) -> Tensor:
    from captum.attr import IntegratedGradients  # noqa: PLC0415 - Captum is optional and slow to import

    found = IntegratedGradients(partial(score, model)).attribute(
        x, baseline(model, x), additional_forward_args=chosen, n_steps=STEPS, internal_batch_size=_at_once(model, x)
    )
    return modality_of(model.spec).per_cell(found)


def _at_once(model: Model, x: Tensor) -> int:
    """Rows in memory together while a gradient is integrated, never fewer than there are."""
    width = 1
    if modality_of(model.spec).is_embedded and isinstance(model, EmbedsTokens):
        width = model.token_embedding().embedding_dim
    return max(len(x), NUMBERS // (x[0].numel() * width))


def _embedded_gradients(model: Model, x: Tensor, chosen: Tensor) -> Tensor:
    from captum.attr import LayerIntegratedGradients  # noqa: PLC0415 - Captum is optional and slow to import

    assert isinstance(model, EmbedsTokens)  # else `targets.incompatibility` gives a reason

    return (
        LayerIntegratedGradients(partial(score, model), model.token_embedding())
        .attribute(
            x, baseline(model, x), additional_forward_args=chosen, n_steps=STEPS, internal_batch_size=_at_once(model, x)
        )
        .sum(-1)
    )


@torch.no_grad()
def _ablation(model: Model, x: Tensor, chosen: Tensor) -> Tensor:
    from captum.attr import FeatureAblation  # noqa: PLC0415 - Captum is optional and slow to import

    modality = modality_of(model.spec)
    options = {"baselines": baseline(model, x), "additional_forward_args": chosen}
    if (groups := modality.groups(x)) is not None:
        options["feature_mask"] = groups
    return modality.per_cell(FeatureAblation(partial(score, model)).attribute(x, **options))


@torch.no_grad()
def _occlusion(model: Model, x: Tensor, chosen: Tensor) -> Tensor:
    """Attributions by a window of about a quarter of each side, moved by half of it."""
    from captum.attr import Occlusion  # noqa: PLC0415 - Captum is optional and slow to import

    channels, *sides = x.shape[1:]
    steps = [max(1, side // 8) for side in sides]
    windows = [min(side, 2 * step) for side, step in zip(sides, steps, strict=True)]
    return (
        Occlusion(partial(score, model))
        .attribute(
            x,
            sliding_window_shapes=(channels, *windows),
            strides=(channels, *steps),
            baselines=baseline(model, x),
            additional_forward_args=chosen,
        )
        .mean(1)
    )


def _grad_cam(model: Model, layer: nn.Module, x: Tensor, chosen: Tensor) -> Tensor:
    from captum.attr import LayerGradCam  # noqa: PLC0415 - Captum is optional and slow to import

    found = LayerGradCam(partial(score, model), layer).attribute(
        x, additional_forward_args=chosen, relu_attributions=True
    )
    return nn.functional.interpolate(found, size=x.shape[2:], mode="bilinear").squeeze(1)


def last_convolution(model: Model, x: Tensor) -> nn.Module | None:
    """Last block with a convolution whose grid is 4 x 4 or more, for raw images (B, C, H, W); or None.

    Convolutions that only cut an image into patches do not count, and neither does a block that runs more than once
    in a pass.
    """
    ends: list[nn.Module] = []

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) >= GRID:
            ends.append(module)

    convolving = [module for module in model.modules() if module is not model and any(map(_overlaps, module.modules()))]
    hooks = [module.register_forward_hook(note) for module in convolving]
    try:
        with torch.no_grad():
            model.forward(x)
    finally:
        for hook in hooks:
            hook.remove()
    once = [module for module in ends if ends.count(module) == 1]
    return once[-1] if once else None


def _overlaps(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and (max(module.stride) == 1 or module.stride != module.kernel_size)


# a test of them ------------------------------------------------------------------------------------------------------


class Deletion(NamedTuple):
    """Share that is left of predictions when cells are removed, those first that rank highest, or in random order.

    Attributes:
        shares: of the cells that were removed (S,), from 0 to 1.
        ranked, random: for each row (S, B) the probability of the class that was predicted from the whole row; of
            numbers, how far the prediction still is from that of an empty row, as a share of the mean at the start.
        what: `probability` or `prediction`.
    """

    shares: Tensor
    ranked: Tensor
    random: Tensor
    what: str

    @property
    def areas(self) -> tuple[float, float]:
        """Areas under the two curves; a smaller one of `ranked` is better."""
        ranked, random = (torch.trapezoid(curve, self.shares, dim=0).mean().item() for curve in self[1:3])
        return ranked, random

    @property
    def ratio(self) -> float:
        """Factor by which the area is smaller than at random."""
        ranked, random = self.areas
        return random / max(ranked, 1e-12)

    @property
    def meaningful(self) -> bool:
        """True if the areas of the rows differ by more than two standard errors."""
        gain = torch.trapezoid(self.random - self.ranked, self.shares, dim=0)
        error = gain.std().item() / len(gain) ** 0.5 if len(gain) > 1 else 0.0
        return gain.mean().item() > max(2 * error, 1e-6)

    def line(self, method: str) -> str:
        """Sentence that says the result."""
        ranked, random = self.areas
        figures = f"AUC {ranked:.2f} against {random:.2f}, {self.ranked.shape[1]} rows"
        if self.meaningful:
            return f"removing by {method} loses the {self.what} {self.ratio:.1f} times faster than at random: {figures}"
        return f"warning: removing by {method} loses the {self.what} no faster than at random: {figures}"


def deletion(model: Model, x: Tensor, values: Tensor, seed: int = 0) -> Deletion:
    """Remove a growing share of each row's cells and measure the predictions (Samek et al. 2017, arXiv:1509.06321;
    Petsiuk et al. 2018, arXiv:1806.07421). What is removed becomes `baseline`; where a number is predicted, the largest
    attributions go first, whatever their sign.

    Args:
        x: raw rows (B, ...).
        values: their attributions, as `attributions` gives them.
        seed: of the random orders.
    """
    with torch.inference_mode(False), torch.no_grad():
        x = _floating(model, x)
        chosen, empty, spread = predicted(model, x), baseline(model, x), modality_of(model.spec).spread
        removable = modality_of(model.spec).removable(x).flatten(1)
        number = numeric(model)
        steps = min(SHARES, removable.shape[1])
        counts = (removable.sum(1) * torch.arange(steps + 1, device=x.device).unsqueeze(1) / steps).round()  # (S, B)
        nothing = confidence(model, empty.expand_as(x), chosen)

        def curve(keys: Tensor) -> Tensor:
            ranks = keys.masked_fill(~removable, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            left = [
                confidence(model, torch.where(spread(ranks < count.unsqueeze(1), x), empty, x), chosen)
                for count in counts
            ]
            return torch.stack(left) - nothing if number else torch.stack(left)

        keys = values.flatten(1).to(x.device)
        ranked = curve(keys.abs() if number else keys)
        draw = torch.Generator().manual_seed(seed)
        randoms = [curve(torch.rand(removable.shape, generator=draw).to(x.device)) for _ in range(ORDERS)]
        if number:
            scale = ranked[0].abs().mean().clamp(min=1e-12)
            ranked, randoms = ranked.abs() / scale, [one.abs() / scale for one in randoms]
        random = torch.stack(randoms).mean(0).cpu()
        what = "prediction" if number else "probability"
        return Deletion(torch.linspace(0, 1, steps + 1), ranked.cpu(), random, what)


# in words ------------------------------------------------------------------------------------------------------------


def columns(model: Model, x: Tensor) -> dict[str, list[Any]]:
    """Columns to stand beside predictions of raw rows (B, ...): `why`, the names of the strongest cells and their
    attributions; of a table also a column for each of its columns.
    """
    ((_, values),) = attributions(model, x).items()
    modality = modality_of(model.spec)
    names = modality.cell_names(x)
    each = {}
    if modality.has_columns:
        each = {f"why({name})": column.tolist() for name, column in zip(names[0], values.T, strict=True)}
    return {"why": [_strongest(*row) for row in zip(names, values.flatten(1).tolist(), strict=True)], **each}


def _strongest(names: Sequence[str], values: Sequence[float]) -> str:
    """The names with the largest attributions and these, with a minus where they speak against the prediction."""
    places = sorted(range(len(names)), key=lambda i: -abs(values[i]))[:STRONGEST]
    return ", ".join(f"{names[i]} {values[i]:+.2g}" for i in places)
