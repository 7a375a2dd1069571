"""Arrays of one's own: layouts, pictures and tables, parts, and archives that are refused."""

from __future__ import annotations

import csv
import pickle

import numpy as np
import pytest
import torch

from src.data.images.augment import Augment
from src.data.tables.npz import Npz
from src.errors import UserError
from tests.conftest import Lab

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(60, 4)), np.arange(60) % 3
WITH_INF = np.where(np.arange(240).reshape(60, 4) == 30, np.inf, X)
GREY = DRAW.integers(0, 256, (60, 6, 5), dtype=np.uint8)


def ready(path, /, options=None, **arrays) -> Npz:
    if arrays:
        np.savez(path / "a.npz", **arrays)
    data = Npz(**({"path": str(path / "a.npz")} | (options or {})))
    data.setup("fit")
    return data


def test_a_table_and_its_classes(tmp_path) -> None:
    data = ready(tmp_path, x=X, y=Y)
    assert data.spec.modality == "table" and data.spec.input_shape == (4,) and data.spec.class_names == ("0", "1", "2")
    assert data.spec.splits == {"train": 36, "val": 12, "test": 12}
    assert data.spec.input.mean == pytest.approx(data.splits["train"]["input"].double().mean(0).tolist())
    assert ready(tmp_path, data=X.reshape(60, 2, 2), target=X[:, 0]).tasks == ("regression",)


@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels")])
def test_parts_by_either_layout(tmp_path, names) -> None:
    arrays = [GREY[:40], Y[:40, None].astype(np.uint8), GREY[40:], Y[40:, None].astype(np.uint8)]
    data = ready(tmp_path, **dict(zip(names, arrays, strict=False)))
    assert data.spec.modality == "image" and data.spec.input_shape == (1, 6, 5)
    assert data.spec.splits == (
        {"train": 32, "val": 8, "test": 20} if len(names) == 4 else {"train": 24, "val": 8, "test": 8}
    )
    if len(names) == 4:
        assert torch.equal(data.splits["test"]["input"][:, 0], torch.from_numpy(GREY[40:]))
        assert data.splits["test"]["target"].tolist() == Y[40:].tolist()


def test_channels_come_first_and_names_can_be_given(tmp_path) -> None:
    colour = DRAW.integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
    labels = {"2": "cat", "0": "dog", "1": "dog"}
    named = {"inputs": "pictures", "targets": "kind", "labels": labels}
    data = ready(tmp_path, named, pictures=colour, kind=Y, x=X)
    assert data.spec.input_shape == (3, 6, 5) and data.spec.class_names == ("cat", "dog")
    assert data.splits["test"]["input"].dtype == torch.uint8
    assert data.spec.class_counts == (12, 24)
    other = ready(tmp_path, named, pictures=colour.transpose(0, 3, 1, 2), kind=Y)  # as PyTorch has them
    assert other.spec == data.spec


def test_every_row_of_another_archive_counts(tmp_path) -> None:
    spec = ready(tmp_path, x=GREY, y=Y).spec
    np.savez(tmp_path / "b.npz", test_x=GREY[:7], test_y=Y[:7], train_x=GREY[7:20], train_y=Y[7:20])
    data = Npz(path=str(tmp_path / "b.npz"))
    data.reuse(spec)
    assert torch.equal(data.splits["test"]["input"][:, 0], torch.from_numpy(np.concatenate([GREY[7:20], GREY[:7]])))
    assert data.splits["test"]["target"].tolist() == [*Y[7:20], *Y[:7]]
    for rows, labels, message in (
        (GREY[:, :5], Y, r"inputs uint8 \(60, 5, 5\) make rows of 1x5x5, not 1x6x5"),
        (X, Y, r"inputs float64 \(60, 4\) are no pictures"),
        (GREY, Y + 1, "row 3, array y: '3' is no class"),
    ):
        np.savez(tmp_path / "b.npz", x=rows, y=labels)
        with pytest.raises(UserError, match=message):
            Npz(path=str(tmp_path / "b.npz")).reuse(spec)


def test_new_arrays_are_predicted_without_a_target(lab: Lab, tmp_path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    small = ("model=fnn", "data=npz", f"data.path={tmp_path / 'a.npz'}", "trainer.max_epochs=1")
    assert lab.train(*small, "tracking.system_metrics=false").code == 0
    np.savez(tmp_path / "new.npz", x_train=X[:5], x_test=X[5:8])
    result = lab.run("predict", "run=last", f"data.path={tmp_path / 'new.npz'}", "batch_size=2")
    assert result.code == 0, result.err
    with open(lab.folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["row"]) for row in rows] == [
        *(("train", str(n)) for n in range(1, 6)),
        *(("test", str(n)) for n in range(1, 4)),
    ]
    assert {"P(0)", "P(1)", "P(2)"} <= rows[0].keys()
    assert (
        lab.run("predict", "run=last", f"data.path={tmp_path / 'new.npz'}", "data.split=test", "force=true").code == 0
    )
    with open(lab.folder / "predictions.csv", newline="") as file:
        assert list(csv.DictReader(file)) == rows[5:]
    for options, message in (
        (["data.split=val"], "data.split=val: "),
        (["data.inputs=z"], "has no array z"),
        (["data.target=y"], "data.target: this model's data has no such option"),
    ):
        result = lab.run("predict", "run=last", f"data.path={tmp_path / 'new.npz'}", "force=true", *options)
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1


@pytest.mark.real_data
def test_a_pneumonia_archive_trains(lab: Lab, data_folder) -> None:
    path = data_folder / "medmnist" / "pneumoniamnist.npz"
    result = lab.train("model=cnn", "data=npz", f"data.path={path}", "debug=fast_dev_run", "tracking=none")
    assert result.code == 0, result.err
    assert "binary, 4,708 / 524 / 624 rows of 1x28x28" in result.out


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"a": X, "y": Y}, {}, "a.npz has no inputs: a, y; say which by data.inputs"),
        ({"x": X, "z": Y}, {}, "a.npz has no targets: x, z; say which by data.targets"),
        ({"x": X, "y": Y}, {"inputs": "xs"}, r"has no array xs \(did you mean x\?\)"),
        ({"x": X, "y": Y[:9]}, {}, r"\(60, 4\) inputs and \(9,\) targets do not fit"),
        ({"x": X, "y": np.eye(3)[Y]}, {}, r"\(60, 4\) inputs and \(60, 3\) targets do not fit"),
        ({"x_train": X, "y_test": Y}, {}, "inputs for train, targets for test: both are needed, for train"),
        ({"x": WITH_INF, "y": Y}, {}, "row 8 of the inputs, column 2: inf is not finite"),
        ({"x": X, "y": np.where(Y == 0, np.nan, X[:, 0])}, {}, "column y is missing in rows 1, 4, 7 and 17 more"),
        ({"x": X, "y": 0 * Y}, {}, r"column y has one class only \(0\)"),
        ({"x": X, "y": np.array(["a"] * 59 + ["b"])}, {}, "a.npz, row 60: class b: 1 row, too few"),
        ({"x": np.array(["a"] * 60), "y": Y}, {}, r"inputs <U1 \(60,\) are no table"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, {}, r"float64 \(60, 2\) make rows of 2, not 4"),
        ({"x": X, "y": Y}, {"augment": Augment(crop=1)}, "data.augment is for pictures"),
        ({"x": np.array([{}] * 60), "y": Y}, {}, "it holds pickled objects, which could run any code"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path, arrays, options, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ready(tmp_path, options, **arrays)
    assert "\n" not in str(caught.value)


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


def test_files_that_are_no_archive_are_refused_unread(tmp_path) -> None:
    for content in (pickle.dumps(Trap()), b"hello", b"", b"PK\x03\x04 cut off"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UserError, match="a.npz cannot be used"):
            ready(tmp_path)
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(UserError, match="it is no archive of arrays"):
        ready(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        ready(tmp_path, {"path": str(tmp_path / "nowhere.npz")})
