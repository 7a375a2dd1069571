"""Results of the recipes of speech, beside the majority and logistic regression on cepstra of the same rows.

    LABBOOK_DATA_ROOT=../shared/data python benchmarks/speech.py

Features are those of a classical recogniser: mean and standard deviation over time of 13 mel-frequency cepstral
coefficients (Davis and Mermelstein 1980) and of their changes from frame to frame, in each third of the frames that are
not silence. They come from the log-mel images that the nets see; scikit-learn's LogisticRegression is as it comes. The
nets' own figures come from the recipes (`experiments/README.md`): this script trains no net.
"""

from __future__ import annotations

import sys

import numpy as np
from _rounds import where
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from scipy.fft import dct
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from src.config import compose
from src.data.audio.datasets import SpokenDigits

COEFFICIENTS, THIRDS = 13, 3


def cepstra(image: np.ndarray) -> np.ndarray:
    """Cepstra (2 * 2 * 13 * 3,) of a log-mel image (frames, bands)."""
    heard = image[image.max(1) > image.min()]
    coefficients = dct(heard, norm="ortho", axis=1)[:, :COEFFICIENTS]
    both = np.hstack([coefficients, np.gradient(coefficients, axis=0)])
    return np.hstack([[part.mean(0), part.std(0)] for part in np.array_split(both, THIRDS)]).ravel()


def compared(*options: str) -> list[str]:
    """Rows, majority and accuracy of the test part."""
    data = instantiate(compose(["experiment=speech/spoken_digits", *options]).data, _convert_="all")
    data.setup("fit")
    parts = {
        name: (np.stack([cepstra(row[0]) for row in part["input"].double().numpy()]), part["target"].numpy())
        for name, part in data.splits.items()
    }
    (inputs, target), (unseen, truth) = parts["train"], parts["test"]
    majority = float((truth == np.bincount(target).argmax()).mean())
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000)).fit(inputs, target)
    return [f"{len(target)} / {len(truth)}", f"{majority:.4f}", f"{model.score(unseen, truth):.4f}"]


def main() -> None:
    table = Table(caption=where())
    for heading in ("test part", "train / test", "majority", "cepstra, logistic regression"):
        table.add_column(heading)
    table.add_row("upstream", *compared())
    alone = {name: compared(f"data.speakers_out=[{name}]") for name in SpokenDigits.speakers}
    for name, figures in alone.items():
        table.add_row(f"{name}, unseen", *figures)
    table.add_row("mean of the unseen", "", "", f"{np.mean([float(figures[-1]) for figures in alone.values()]):.4f}")
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
