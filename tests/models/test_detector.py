"""Detection: average precision by hand, what a place is to predict, detectors trained and asked about pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.config import compose
from src.data.boxes.scenes import Scenes
from src.errors import UserError
from src.experiment.build import build_model
from src.metrics.detection import MeanAveragePrecision, average_precision, metric_names
from src.models.torchvision_detector import TorchvisionDetector
from src.tasks.detection.task import assigned, dense_losses, found, paired_iou
from tests.conftest import Lab
from tests.tiny import build, dataset

NAN = float("nan")


def detections(*rows: tuple[float, ...], count: int = 4) -> torch.Tensor:
    """One image's (1, count, 6) as x1 y1 x2 y2 score class."""
    table = torch.tensor([*rows, *[(0, 0, 0, 0, 0, -1)] * (count - len(rows))], dtype=torch.float32)
    return table.unsqueeze(0)


def right(*rows: tuple[float, ...], count: int = 3) -> torch.Tensor:
    return torch.tensor([*rows, *[(0, 0, 0, 0, -1)] * (count - len(rows))], dtype=torch.float32).unsqueeze(0)


def score(pairs: list[tuple[torch.Tensor, torch.Tensor]], classes: int = 2) -> dict[str, float]:
    metric = MeanAveragePrecision([f"c{i}" for i in range(classes)], each=True)
    for prediction, target in pairs:
        metric.update(prediction, target)
    return {name: value.item() for name, value in metric.compute().items()}


# average precision ---------------------------------------------------------------------------------------------------


def test_perfect_boxes_have_a_precision_of_one() -> None:
    boxes = [(0, 0, 10, 10), (20, 20, 40, 50)]
    found = detections((*boxes[0], 0.9, 0), (*boxes[1], 0.8, 1))
    values = score([(found, right((*boxes[0], 0), (*boxes[1], 1)))])
    assert values == pytest.approx({"map": 1, "map50": 1, "ap50_c0": 1, "ap50_c1": 1})


def test_interpolation_at_101_recalls_by_hand() -> None:
    """Four boxes; in the order of their scores: right, wrong, right, right; the fourth box is not found.

    Precision is 1, 1/2, 2/3, 3/4 at recalls 1/4, 1/4, 2/4, 3/4; interpolated 1 up to 0.25, 3/4 up to 0.75, then 0.
    """
    hits = torch.tensor([[True], [False], [True], [True]])
    value = average_precision(torch.tensor([0.9, 0.8, 0.7, 0.6]), hits, boxes=4)
    assert value.item() == pytest.approx((26 * 1 + 50 * 0.75) / 101)
    order = torch.tensor([2, 0, 3, 1])
    mixed = average_precision(torch.tensor([0.9, 0.8, 0.7, 0.6])[order], hits[order], boxes=4)
    assert mixed.item() == value.item()


@pytest.mark.parametrize(("shift", "overlaps"), [(0, 10), (1, 7), (3, 1), (4, 0)])
def test_the_overlap_decides(shift: int, overlaps: int) -> None:
    """A box of 10x10 moved by d has an overlap of (10 - d) / (10 + d): 1, 0.818, 0.538, 0.429."""
    values = score([(detections((shift, 0, 10 + shift, 10, 0.9, 0)), right((0, 0, 10, 10, 0)))])
    assert values["map"] == pytest.approx(overlaps / 10)
    assert values["map50"] == (overlaps > 0)
    assert np.isnan(values["ap50_c1"])  # a class that no image has


def test_a_box_is_found_once_by_the_most_certain() -> None:
    box = (0, 0, 10, 10)
    twice = detections((*box, 0.9, 0), (*box, 0.8, 0))
    assert score([(twice, right((*box, 0)))])["ap50_c0"] == 1  # what is wrong comes after full recall
    other = detections((30, 30, 40, 40, 0.95, 0), (*box, 0.9, 0))
    assert score([(other, right((*box, 0)))])["ap50_c0"] == pytest.approx(0.5)
    assert score([(detections((*box, 0.9, 1)), right((*box, 0)))])["ap50_c0"] == 0  # another class
    # the second one takes the box that is left, though it overlaps the first box more
    near = right((0, 0, 10, 10, 0), (2, 0, 12, 10, 0))
    assert score([(detections((0, 0, 10, 10, 0.9, 0), (0.5, 0, 10.5, 10, 0.8, 0)), near)])["ap50_c0"] == 1


def test_images_are_judged_together_and_padding_counts_nowhere() -> None:
    box = (0, 0, 10, 10)
    pairs = [
        (detections((*box, 0.6, 0)), right((*box, 0))),
        (detections((*box, 0.9, 0)), right()),  # an image without boxes
        (detections(), right((*box, 0))),
    ]
    # wrong, right: precision 1/2 at a recall of 1/2
    expected = 51 * 0.5 / 101
    assert score(pairs)["ap50_c0"] == pytest.approx(expected)
    together = [(torch.cat([p for p, _ in pairs]), torch.cat([t for _, t in pairs]))]
    assert score(together) == pytest.approx(score(pairs), nan_ok=True)
    assert np.isnan(score([(detections(), right())])["map"])


def test_names_of_classes_become_names_of_metrics() -> None:
    assert metric_names(["red cell", "red/cell", "WBC"]) == ["red_cell_0", "red_cell_1", "WBC"]


# the loss ------------------------------------------------------------------------------------------------------------


def test_places_predict_the_smallest_box_whose_centre_is_near() -> None:
    def level(count: int, stride: float) -> torch.Tensor:
        middle = (torch.arange(count) + 0.5) * stride
        grid = torch.cartesian_prod(middle, middle)
        return torch.cat([grid, torch.full((len(grid), 1), stride)], dim=1)

    fine, coarse = level(8, 4.0), level(4, 8.0)
    places = torch.cat([fine, coarse]).unsqueeze(0)
    boxes = torch.tensor([[[4.0, 4, 20, 20], [8, 8, 16, 16], [30, 30, 31, 31], [0, 0, 32, 33], [0, 0, 0, 0]]])
    labels = torch.tensor([[0, 1, 0, 1, -1]])
    place, some = assigned(places, boxes, labels)
    by_box = {i: places[0][some[0] & (place[0] == i)] for i in range(5)}
    assert all((p[2] == 4).all() for p in (by_box[0].T, by_box[1].T, by_box[2].T))  # up to 32 pixels: the finest level
    assert (by_box[1][:, :2] - 12).abs().amax() <= 4 and len(by_box[1]) == 4  # inside
    assert len(by_box[0]) > 0 and len(by_box[2]) == 1  # less than a stride wide, and yet one place
    assert (by_box[3][:, 2] == 8).all() and len(by_box[3]) > 0  # more than eight strides of 4
    assert not len(by_box[4])


def test_overlaps_equal_torchvision_s() -> None:
    from torchvision.ops import box_iou, generalized_box_iou

    corner = torch.rand(2, 20, 2) * 10
    a, b = torch.cat([corner, corner + 1 + torch.rand(2, 20, 2) * 9], dim=2)
    plain, generalised = paired_iou(a, b)
    torch.testing.assert_close(plain, box_iou(a, b).diagonal())
    torch.testing.assert_close(generalised, generalized_box_iou(a, b).diagonal())


def test_the_right_answer_has_no_loss_and_an_image_without_boxes_has_one() -> None:
    model = build("detector", "scenes").eval()
    batch = dataset("scenes").head("train", 4)
    outputs = model.outputs(batch).detach()
    place, some = assigned(outputs[..., 4:7], batch["boxes"], batch["labels"])
    perfect = outputs.clone()
    perfect[..., 7:] = -20
    perfect[..., :4] = batch["boxes"].gather(1, place.unsqueeze(2).expand(-1, -1, 4))
    label = batch["labels"].gather(1, place)
    perfect[..., 7:].scatter_(2, label.clamp(min=0).unsqueeze(2), torch.where(some, 20.0, -20.0).unsqueeze(2))
    losses = dense_losses(perfect, batch["boxes"], batch["labels"])
    assert (losses < 1e-4).all() and (dense_losses(outputs, batch["boxes"], batch["labels"]) > 0.5).all()
    values = model.task.metrics()(model.task.predict(perfect), model.task.target(batch))
    assert values["map"] > 0.99
    none = dense_losses(outputs, torch.zeros(4, 1, 4), torch.full((4, 1), -1))
    assert none.isfinite().all() and (none > 0).all()


def test_overlapping_detections_of_one_class_are_left_out() -> None:
    def one(box, logits):
        return [*box, 0, 0, 4, *logits]

    outputs = torch.tensor(
        [
            one((0, 0, 10, 10), (3, -9)),
            one((1, 0, 11, 10), (2, -9)),
            one((0, 0, 10, 10), (-9, 1)),
            one((-5, 8, 9, 99), (0, -9)),
        ],
        dtype=torch.float32,
    )
    rows = found(outputs, (32, 32))
    assert rows.shape == (100, 6) and (rows[3:, 5] == -1).all() and (rows[3:, 4] == 0).all()
    assert rows[:3, 5].tolist() == [0, 1, 0]
    assert rows[2, :4].tolist() == [0, 8, 9, 32]  # cut off at the image's edge


# models --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [(["model.channels=[]"], "one or more"), (["model.channels=[4,4,4,4,4,4,4]"], "7 halvings of 40x40 pixels"),
     (["model.levels=0"], "at least 1"), (["model.head_layers=-1"], "at least 0")],
)  # fmt: skip
def test_options_that_make_no_net(options: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        build_model(compose(["model=detector", *options]), dataset("scenes").spec)


@pytest.mark.parametrize(
    ("options", "problem"),
    [(["model.name=fasterrcnn"], r"did you mean"), (["model.name=maskrcnn_resnet50_fpn"], "finds no boxes"),
     (["model.weights=IMAGENET"], "has DEFAULT, COCO_V1, or null"), (["model.resize=2"], "at least 16"),
     (["model.name=ssdlite320_mobilenet_v3_large", "model.resize=64"], "size of its own")],
)  # fmt: skip
def test_names_that_torchvision_does_not_have(options: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        build_model(compose(["model=torchvision_detector", *options]), dataset("scenes").spec)


def test_classifiers_are_refused_for_boxes_and_detectors_for_classes() -> None:
    for model, data in (("cnn", "scenes"), ("detector", "digits")):
        with pytest.raises(UserError, match="models that fit: "):
            build_model(compose([f"model={model}"]), dataset(data).spec)


def test_torchvision_s_detector_judges_each_image_alone() -> None:
    torch.manual_seed(0)
    config = compose(["model=torchvision_detector", "model.resize=40"])
    model = build_model(config, dataset("scenes").spec)
    assert isinstance(model, TorchvisionDetector)
    batch = dataset("scenes").head("train", 3)
    loss = model.training_step(batch, 0)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        outputs = model.outputs(batch)
        alone = torch.cat([model.outputs({k: v[i : i + 1] for k, v in batch.items()}) for i in range(3)])
        unseen = model.outputs({"input": batch["input"]})
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(outputs, alone) and torch.equal(outputs[:, 1:], unseen[:, 1:])
    assert model.task.loss(outputs, batch) == outputs[:, 0, 0].mean() > 0
    assert model.task.predict(outputs).shape == (3, 100, 6)


# commands ------------------------------------------------------------------------------------------------------------


def pictures(folder: Path) -> Path:
    """Two scenes, twice as large and wider than high."""
    folder.mkdir()
    data = Scenes(scenes=10, size=40, most=3)
    data.setup("fit")
    for i in range(2):
        wide = np.pad(data.splits["test"]["input"][0, 0].numpy(), ((0, 0), (0, 20)), constant_values=114)
        Image.fromarray(wide).resize((120, 80), Image.NEAREST).save(folder / f"{i}.png")
    return folder


def test_trained_evaluated_and_asked_about_pictures(lab: Lab) -> None:
    small = ["data.scenes=60", "data.size=40", "data.most=3", "model.channels=[8,16,16]", "model.width=16"]
    result = lab.train(
        "model=detector",
        *small,
        "trainer.max_epochs=2",
        "show_predictions=2",
        "trainer=cpu",
        "tracking.system_metrics=false",
    )
    assert result.code == 0, result.err
    assert "found (score)" in result.out and "worst examples" not in result.out
    (run,) = lab.runs()
    assert {"test/map", "test/map50", "test/ap50_3", "val/map50_best", "baseline/map50"} <= run.data.metrics.keys()
    figures = lab.artifacts(run.info.run_id) / "figures"
    assert list((figures.parent / "images").glob("detections+step+4+*.png"))  # after each validation
    assert {"detections.png", "curve_map50.png"} <= {path.name for path in figures.iterdir()}
    # the net is asked to find everything, however uncertain it is
    folder, output = pictures(lab.folder / "new"), lab.folder / "found.json"
    asked = lab.run("predict", "run=last", f"data.path={folder}", f"output={output}", "score_threshold=0")
    assert asked.code == 0, asked.err
    content = json.loads(output.read_text())
    assert [image["file_name"] for image in content["images"]] == ["0.png", "1.png"]
    assert content["images"][0] | {"id": 0} == {"id": 0, "file_name": "0.png", "height": 80, "width": 120}
    assert content["annotations"] and all(0 <= box["score"] <= 1 for box in content["annotations"])
    for box in content["annotations"]:
        x, y, width, height = box["bbox"]
        assert 0 <= x <= x + width <= 120.01 and 0 <= y <= y + height <= 80.01
    with Image.open(lab.folder / "found_boxes" / "0.png.png") as picture:
        assert picture.mode == "RGB" and picture.size[0] >= 120
    refused = lab.run("predict", "run=last", f"data.path={folder}", f"output={output}")
    assert refused.code == 2 and "exists" in refused.err
    evaluated = lab.run("evaluate", "run=last", "resamples=20")
    assert evaluated.code == 0, evaluated.err
    assert "equal those that the run logged, to the last bit" in evaluated.out
