"""Pictures of single examples: what positions attend to, forecasts beside the truth, images with their predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.plots.base import short

LAYERS, HEADS = 2, 4  # the first and the last of each are drawn, and what lies evenly between
TOKENS = 32  # drawn of a text
CHANNELS = 4  # drawn of a series
ROLLING = 200  # windows drawn of a forecast of one step
INK, FORECAST, NAIVE = "black", "tab:blue", "tab:orange"


def attention(weights: np.ndarray, queries: Sequence[str], keys: Sequence[str], title: str) -> Figure:
    """Attention of some layers and heads as matrices, a row for each position that attends.

    Args:
        weights: (layers, heads, T, S).
        queries, keys: names of the T and of the S positions; those after the first 32 are left out.
    """
    weights = weights[..., :TOKENS, :TOKENS]
    queries, keys = ([short(name, 12) for name in names[:TOKENS]] for names in (queries, keys))
    layers, heads = _spread(len(weights), LAYERS), _spread(weights.shape[1], HEADS)
    width, height = (max(1.3, 0.1 * len(names)) for names in (keys, queries))
    left, bottom = (0.15 + 0.07 * max(map(len, names)) for names in (queries, keys))
    figure, axes = grid(len(layers), len(heads), (width, height), (0.15, 0.3), (left, bottom, 1.2, 0.6))
    scale = PowerNorm(0.5, 0, weights[layers][:, heads].max())  # a weight of 1 in 30 can still be seen
    letters = max(map(len, keys)) == 1
    for row, layer in enumerate(layers):
        for column, head in enumerate(heads):
            ax = axes[row, column]
            image = ax.imshow(weights[layer, head], cmap="Blues", norm=scale, interpolation="nearest", aspect="auto")
            ax.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
            ax.set(xticks=[], yticks=[])
            if row == len(layers) - 1:
                ax.set_xticks(range(len(keys)), keys, rotation=0 if letters else 90, fontsize=7)
            if column == 0:
                ax.set_yticks(range(len(queries)), queries, fontsize=7)
            ax.tick_params(length=1.5, pad=1.5)
    inches = figure.get_figwidth()
    low, high = axes[-1, 0].get_position().y0, axes[0, 0].get_position().y1
    bar = figure.colorbar(image, cax=figure.add_axes((1 - 1.0 / inches, low, 0.12 / inches, high - low)))
    bar.set_label("attention of the row to the column", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def attention_on_image(image: np.ndarray, weights: np.ndarray, patch_size: int, title: str) -> Figure:
    """An image, and over it in red how strongly some layers and heads attend to each patch, beside their strongest.

    Args:
        image: (C, H, W).
        weights: (layers, heads, rows, columns) of patches.
        patch_size: pixels each way.
    """
    picture = displayed(image)
    height, width = picture.shape[:2]
    layers, heads = _spread(len(weights), LAYERS), _spread(weights.shape[1], HEADS)
    side = 1.7 / max(height, width)
    figure, axes = grid(len(layers), len(heads) + 1, (side * width, side * height), (0.2, 0.5), (0.1, 0.1, 0.1, 0.5))
    rows, columns = weights.shape[2:]
    extent = (-0.5, columns * patch_size - 0.5, rows * patch_size - 0.5, -0.5)
    grey = picture if picture.ndim == 2 else picture.mean(2)
    for row, layer in enumerate(layers):
        axes[row, 0].imshow(picture, cmap="gray", interpolation="nearest")
        axes[row, 0].set_title(title, fontsize=9)
        for ax, head in zip(axes[row, 1:], heads, strict=True):
            seen = weights[layer, head]
            red = np.zeros((rows, columns, 4))
            red[..., 0], red[..., 3] = 1, 0.8 * seen / seen.max()
            ax.imshow(grey, cmap="gray", interpolation="nearest")
            ax.imshow(red, extent=extent, interpolation="nearest")
            ax.set_title(f"layer {layer + 1}, head {head + 1}\nup to {seen.max():.2f}", fontsize=9)
    for ax in axes.flat:
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        ax.set_axis_off()
    return figure


def forecasts(
    context: np.ndarray,
    truth: np.ndarray,
    forecast: np.ndarray,
    naive: np.ndarray,
    names: Sequence[str],
    titles: Sequence[str],
) -> Figure:
    """Windows of a series, a column each: what was known, the truth, the forecast and the naive forecast.

    Args:
        context: (N, T, F and more); of it twice as many steps are drawn as are forecast, at least 24.
        truth, forecast, naive: (N, H, F).
        names: of the F channels; those after the fourth are left out.
        titles: of the N windows.
    """
    horizon, channels = truth.shape[1], min(truth.shape[2], CHANNELS)
    context = context[:, -max(24, 2 * horizon) :]
    figure, axes = grid(channels, len(titles), (3.6, 1.5), (0.5, 0.2), (0.7, 0.5, 0.1, 0.7))
    before, after = np.arange(1 - context.shape[1], 1), np.arange(1, horizon + 1)
    mark = "." if horizon <= 24 else None
    for channel in range(channels):
        for window, title in enumerate(titles):
            ax = axes[channel, window]
            ax.plot(before, context[window, :, channel], color="0.6", linewidth=1, label="context")
            ax.plot(after, truth[window, :, channel], color=INK, marker=mark, label="truth")
            ax.plot(
                after, naive[window, :, channel], color=NAIVE, linestyle="--", linewidth=1, marker=mark, label="naive"
            )
            ax.plot(after, forecast[window, :, channel], color=FORECAST, marker=mark, label="forecast")
            ax.axvline(0.5, color="0.8", linewidth=0.8)
            if channel == 0:
                ax.set_title(short(title, 40), fontsize=10)
        axes[channel, 0].set_ylabel(short(names[channel]), fontsize=9)
    return _legend(figure, axes, "steps ahead")


def rolling_forecasts(truth: np.ndarray, forecast: np.ndarray, naive: np.ndarray, names: Sequence[str]) -> Figure:
    """Forecasts of one step, window after window, beside the truth.

    Args:
        truth, forecast, naive: (N, F) of windows that follow each other; the first 200 are drawn.
        names: of the F channels; those after the fourth are left out.
    """
    channels, steps = min(truth.shape[1], CHANNELS), np.arange(len(truth))[:ROLLING]
    figure, axes = grid(channels, 1, (8.2, 2.0), (0, 0.2), (0.7, 0.5, 0.1, 0.5))
    for channel, ax in enumerate(axes[:, 0]):
        ax.plot(steps, truth[:ROLLING, channel], color=INK, label="truth")
        ax.plot(steps, naive[:ROLLING, channel], color=NAIVE, linestyle="--", linewidth=1, label="naive")
        ax.plot(steps, forecast[:ROLLING, channel], color=FORECAST, label="forecast")
        ax.set_ylabel(short(names[channel]), fontsize=9)
    return _legend(figure, axes, "row of the test split, each forecast one step ahead")


def _legend(figure: Figure, axes: np.ndarray, x_name: str) -> Figure:
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.3)
        ax.tick_params(labelsize=8)
    for ax in axes[:-1].flat:
        ax.tick_params(labelbottom=False)
    for ax in axes[-1]:
        ax.set_xlabel(x_name, fontsize=9)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def gallery(images: np.ndarray, titles: Sequence[str], note: str = "") -> Figure:
    """Images (N, C, H, W) in a grid, each under its title of one or two lines, and a note below all."""
    columns = min(4, len(images))
    rows = math.ceil(len(images) / columns)
    pictures = [displayed(image) for image in images]
    height, width = pictures[0].shape[:2]
    size = 1.5 * width / max(height, width), 1.5 * height / max(height, width)
    bottom = 0.35 if note else 0.1
    figure, axes = grid(rows, columns, size, (max(0.2, 1.8 - size[0]), 0.45), (0.3, bottom, 0.3, 0.45))
    figure.text(0.5, 0.1 / figure.get_figheight(), note, ha="center", fontsize=8)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, picture, title in zip(axes.flat, pictures, titles, strict=False):
        ax.imshow(picture, cmap="gray", interpolation="nearest")
        ax.set_title(title, fontsize=8)
    return figure


def grid(
    rows: int,
    columns: int,
    size: tuple[float, float],
    gaps: tuple[float, float],
    margins: tuple[float, float, float, float],
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (rows, columns), laid out in inches, since matplotlib's own layout takes up to a second.

    Args:
        size: width and height of each.
        gaps: between two of them, across and down.
        margins: left, bottom, right and top.
    """
    left, bottom, right, top = margins
    width = left + columns * size[0] + (columns - 1) * gaps[0] + right
    height = bottom + rows * size[1] + (rows - 1) * gaps[1] + top
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left / width, bottom / height, 1 - right / width, 1 - top / height, gaps[0] / size[0], gaps[1] / size[1]
    )
    return figure, axes


def displayed(image: np.ndarray) -> np.ndarray:
    """(C, H, W) as (H, W), or (H, W, 3) from 0 to 1 where there are three channels; of others the first one."""
    if len(image) != 3:
        return image[0]
    image = image.transpose(1, 2, 0).astype(np.float64)
    low, high = (0.0, 255.0) if image.max() > 1 and image.min() >= 0 else (min(0.0, image.min()), max(1.0, image.max()))
    return (image - low) / (high - low)


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` of `count` numbers from 0 on, in even steps, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})
