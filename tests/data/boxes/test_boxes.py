"""Images with boxes: what is read from Pascal VOC and COCO, what cannot be used, augmentation that boxes follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.boxes.annotated import AnnotatedPictures
from src.data.boxes.augment import BoxAugment
from src.data.boxes.coco import Coco
from src.data.boxes.scenes import Scenes
from src.data.boxes.voc import Voc
from src.data.images.letterbox import letterbox, scales
from src.errors import UserError
from tests.conftest import Lab, real_data

Boxes = list[tuple[str, tuple[Any, Any, Any, Any]]]
ONE: Boxes = [("cat", (4, 6, 14, 26))]


def picture(path: Path, width: int = 40, height: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 200, np.uint8)).save(path)


def voc(folder: Path, annotations: dict[str, Boxes], lists: dict[str, list[str]] | None = None) -> Path:
    (folder / "Annotations").mkdir(parents=True)
    for name, boxes in annotations.items():
        picture(folder / "JPEGImages" / f"{name}.jpg")
        objects = "\n".join(
            f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            "</bndbox></object>"
            for label, (x1, y1, x2, y2) in boxes
        )
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>\n{objects}\n</annotation>")
    for part, names in (lists or {}).items():
        path = folder / "ImageSets" / "Main" / f"{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")
    return folder


def many(count: int = 6, boxes: Boxes = ONE) -> dict[str, Boxes]:
    return {f"p{i}": list(boxes) for i in range(count)}


def coco(folder: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "images": [{"id": 10 + i, "file_name": f"{i}.png"} for i in range(6)],
        "annotations": [{"id": i, "image_id": 10 + i, "category_id": 3, "bbox": [4, 6, 10, 20]} for i in range(6)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    for image in content["images"]:
        picture(folder / image["file_name"])
    (folder / "annotations.json").write_text(json.dumps(content | changes))
    return folder


def ready(data: AnnotatedPictures) -> AnnotatedPictures:
    data.setup("fit")
    return data


# what is read --------------------------------------------------------------------------------------------------------


def test_voc_and_coco_of_the_same_boxes_are_the_same(tmp_path) -> None:
    for data in (Voc(path=voc(tmp_path / "voc", many()), size=20), Coco(path=coco(tmp_path / "coco"), size=20)):
        ready(data)
        train = data.splits["train"]
        assert data.spec.splits == {"train": 4, "val": 1, "test": 1}
        assert data.spec.class_names == ("cat",) and data.spec.class_counts == (4,)
        assert train["input"].shape == (4, 3, 20, 20) and train["input"].dtype == torch.uint8
        assert train["boxes"][0].tolist() == [[2, 3, 7, 13]]  # 40 pixels became 20
        assert train["labels"].tolist() == [[0]] * 4 and train["size"][0].tolist() == [30, 40]
        assert data.spec.target.mean_boxes == ((2, 3, 7, 13),) and data.spec.target.most == 1
        # fifteen rows of the picture, five of grey below it
        assert (train["input"][0, :, :15] > 190).all() and (train["input"][0, :, 15:] == 114).all()


def test_parts_are_those_of_the_lists(tmp_path) -> None:
    annotations = many() | {"p5": [("dog", (1, 1, 9, 9)), *ONE]}
    lists = {"trainval": ["p0", "p1", "p2 1"], "test": ["p5"]}  # further columns, as VOC's lists of a class have them
    data = ready(Voc(path=voc(tmp_path / "a", annotations, lists), size=20))
    assert data.spec.splits == {"train": 2, "val": 1, "test": 1}
    assert data.spec.class_names == ("cat", "dog") and data.spec.class_counts == (2, 0)
    assert (
        data.splits["test"]["labels"].tolist() == [[1, 0]] and data.splits["train"]["labels"].tolist() == [[0, -1]] * 2
    )
    assert data.splits["train"]["boxes"][:, 1].abs().sum() == 0  # padding


def test_a_class_of_the_test_part_alone_is_told(tmp_path, capsys) -> None:
    lists = {"train": ["p0", "p1"], "val": ["p2"], "test": ["p3"]}
    ready(Voc(path=voc(tmp_path / "a", many() | {"p3": [("dog", (1, 1, 9, 9))]}, lists)))
    assert "a: no box of class dog to train on" in capsys.readouterr().err


def test_coco_has_parts_in_files_of_their_own(tmp_path) -> None:
    folder = tmp_path / "c"
    coco(folder / "train2017")
    for part in ("train", "val"):
        (folder / "annotations").mkdir(exist_ok=True)
        content = (folder / "train2017" / "annotations.json").read_text()
        (folder / "annotations" / f"instances_{part}2017.json").write_text(content)
    coco(folder / "val2017")
    files = {part: f"annotations/instances_{part}2017.json" for part in ("train", "val")}
    data = ready(Coco(path=folder, **files, size=16))
    assert data.spec.splits == {"train": 5, "val": 6, "test": 1}
    with pytest.raises(UserError, match=r"data.train: which file is it beside data.val"):
        ready(Coco(path=folder, val=files["val"]))


def test_pictures_without_a_box_are_kept_by_coco_and_left_out_by_voc(tmp_path, capsys) -> None:
    data = ready(
        Coco(path=coco(tmp_path / "c", annotations=[{"id": 1, "image_id": 10, "category_id": 3, "bbox": [1, 1, 9, 9]}]))
    )
    assert sum(data.spec.splits.values()) == 6 and data.describe()["boxes"].keys() == {"train", "val", "test"}
    folder = voc(tmp_path / "v", many(7))
    (folder / "Annotations" / "p6.xml").rename(folder / "Annotations" / "other.xml")
    assert sum(ready(Voc(path=folder)).spec.splits.values()) == 6
    told = capsys.readouterr().err
    assert "pictures without an annotation, left out: 1" in told
    assert "annotations without a picture, left out: 1" in told


def test_rows_in_files_are_those_in_memory(tmp_path) -> None:
    folder = voc(tmp_path / "v", many())
    kept, read = (ready(Voc(path=folder, size=24, in_memory=m)) for m in (True, False))
    for name in ("train", "test"):
        first, second = (next(iter(data.in_order(name, 4))) for data in (kept, read))
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("original", [(30, 40), (480, 640), (37, 11), (8, 900)])
def test_boxes_find_their_way_back(tmp_path, original: tuple[int, int]) -> None:
    picture(tmp_path / "a.png", width=original[1], height=original[0])
    image = letterbox(tmp_path / "a.png", (32, 48), 3)
    (factors,) = scales(torch.tensor([original]), (32, 48))
    width, height = (factors[:2] * torch.tensor(original[::-1])).round().int().tolist()
    assert image.shape == (3, 32, 48) and width <= 48 and height <= 32 and (width == 48 or height == 32)
    assert (image[:, :height, :width] == 200).all()
    outside = torch.ones(32, 48, dtype=torch.bool)
    outside[:height, :width] = False
    assert (image[:, outside] == 114).all()


def test_other_pictures_are_judged_by_the_classes_of_the_model(tmp_path, capsys) -> None:
    spec = ready(Voc(path=voc(tmp_path / "a", many()), size=[20, 24])).spec
    other = Voc(path=voc(tmp_path / "b", many(3) | {"p0": [("bird", (1, 1, 9, 9)), *ONE]}))
    other.reuse(spec)
    test = other.splits["test"]
    assert test["input"][torch.arange(3)].shape == (3, 3, 20, 24) and test["labels"].tolist() == [[0]] * 3
    assert "b: boxes of another class, left out: 1" in capsys.readouterr().err


# what cannot be used -------------------------------------------------------------------------------------------------


def test_boxes_that_cannot_be_used_are_counted(tmp_path, capsys) -> None:
    boxes: Boxes = [
        *ONE,
        ("cat", (5, 5, 5, 20)),  # no width
        ("cat", (9, 9, 3, 12)),  # from right to left
        ("cat", (41, 2, 50, 9)),  # beyond the picture
        ("cat", (30, 20, 60, 31)),  # partly
        ("dog", (1, 1, 9, 9)),
    ]
    data = ready(Voc(path=voc(tmp_path / "v", many() | {"p0": boxes}), size=40, classes=["cat"]))
    whole = torch.cat([part["boxes"][part["labels"] >= 0] for part in data.splits.values()])
    assert len(whole) == 7 and [30, 20, 40, 30] in whole.tolist()
    told = capsys.readouterr().err
    for line in (
        "boxes without an area, left out: 2", "boxes outside of the picture, left out: 1",
        "boxes cut off at the picture's edge: 1", "boxes of another class, left out: 1",
    ):  # fmt: skip
        assert f"v: {line}" in told
    assert data.describe()["changed"]["without an area, left out"] == 2


def test_crowds_are_counted(tmp_path, capsys) -> None:
    one = {"image_id": 10, "category_id": 3, "bbox": [4, 6, 10, 20]}
    data = ready(Coco(path=coco(tmp_path / "c", annotations=[one, one | {"iscrowd": 1}])))
    assert sum(data.describe()["boxes"].values()) == 1
    assert "boxes of crowds, left out: 1" in capsys.readouterr().err


def broken_voc(folder: Path, what: str) -> Path:
    listed = {"train": ["p0", "p1", "p2"], "val": ["p3"], "test": ["p4"]}
    value: Any = {"number": "abc", "infinite": "inf"}.get(what, 14)
    voc(folder, many() | {"p1": [*ONE, ("cat", (4, 6, value, 26))]}, listed)
    annotation = folder / "Annotations" / "p1.xml"
    text = annotation.read_text()
    if what == "xml":
        annotation.write_text(text.replace("</annotation>", "</anno"))
    elif what in ("name", "bndbox", "ymin"):
        annotation.write_text(text.replace(f"<{what}>", "<x>", 1).replace(f"</{what}>", "</x>", 1))
    elif what == "no annotation":
        annotation.unlink()
    elif what == "no picture":
        (folder / "JPEGImages" / "p1.jpg").unlink()
    elif what == "picture":
        (folder / "JPEGImages" / "p1.jpg").write_text("no picture")
    elif what == "twice":
        (folder / "ImageSets" / "Main" / "test.txt").write_text("\np1\n")
    return folder


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("xml", r"p1\.xml, line 4: no XML"),
        ("name", r"p1\.xml, object 1 has no <name>"),
        ("bndbox", r"p1\.xml, object 1 has no <bndbox>"),
        ("ymin", r"p1\.xml, object 1 has no <ymin>"),
        ("number", r"p1\.xml, object 2: 'abc' is no finite number"),
        ("infinite", r"p1\.xml, object 2: 'inf' is no finite number"),
        ("no annotation", r"train\.txt, line 2: there is no .*p1\.xml"),
        ("no picture", r"p1\.jpg cannot be read as a picture \(No such file"),
        ("picture", r"p1\.jpg cannot be read as a picture"),
        ("twice", r"test\.txt, line 2: p1 stands in .*train\.txt, line 2 too"),
    ],
)
def test_a_broken_voc_folder_is_named(tmp_path, what: str, said: str) -> None:
    folder = broken_voc(tmp_path / "v", what)
    with pytest.raises(UserError, match=said):
        ready(Voc(path=folder))
    if what in ("no picture", "picture"):
        data = ready(Voc(path=folder, on_bad="skip"))
        assert data.spec.splits["train"] == 2 and list(data.left_out) == ["JPEGImages/p1.jpg"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"annotations": [{"id": 7, "image_id": 10, "category_id": 4, "bbox": [1, 1, 2, 2]}]},
         r"annotations\.json, annotation 7: there is no category with the id 4 \(known: 3, 5\)"),
        ({"annotations": [{"id": 7, "image_id": 99, "category_id": 3, "bbox": [1, 1, 2, 2]}]},
         r"annotation 7: there is no image with the id 99"),
        ({"annotations": [{"id": 7, "image_id": 10, "category_id": 3, "bbox": [1, 1, 2]}]}, r"annotation 7: bbox is"),
        ({"annotations": [{"id": 7, "image_id": 10, "category_id": 3, "bbox": [1, "x", 2, 2]}]},
         r"annotation 7: 'x' is no finite number"),
        ({"annotations": [{"image_id": 10, "bbox": [1, 1, 2, 2]}]}, r"entry 0 of annotations has no category_id"),
        ({"images": {}}, r"has no list images"),
        ({"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, r"two images have the id 1"),
        ({"annotations": []}, r"no picture in .* has a box"),
    ],
)  # fmt: skip
def test_broken_coco_files_are_named(tmp_path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ready(Coco(path=coco(tmp_path / "c", **changes)))


def test_files_that_are_no_json_or_not_there(tmp_path) -> None:
    folder = coco(tmp_path / "c")
    file = folder / "annotations.json"
    file.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(UserError, match=r"annotations\.json, line 2: no JSON"):
        ready(Coco(path=folder))
    file.write_text("[]")
    with pytest.raises(UserError, match="is no JSON object"):
        ready(Coco(path=folder))
    file.unlink()
    with pytest.raises(UserError, match="which JSON file has the annotations"):
        ready(Coco(path=folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no folder Annotations"):
        ready(Voc(path=tmp_path / "empty"))
    for name in ("Annotations", "JPEGImages"):
        (tmp_path / "empty" / name).mkdir()
    with pytest.raises(UserError, match=r"no picture in JPEGImages with its \.xml in Annotations"):
        ready(Voc(path=tmp_path / "empty"))
    with pytest.raises(UserError, match="there is no such folder"):
        ready(Voc(path=tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"size": 4}, "from 8 on"), ({"size": [20, 30, 40]}, "one number"), ({"channels": 2}, "1 .grey. or 3"),
     ({"classes": ["dog"]}, r"no box is of class dog \(known: cat\)"), ({"classes": []}, "one or more different names"),
     ({"on_bad": "maybe"}, "error or skip"), ({"on_device": True, "in_memory": False}, "keeps rows in memory")],
)  # fmt: skip
def test_options_that_make_no_sense(tmp_path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ready(Voc(path=voc(tmp_path / "v", many()), **options))


def test_a_command_says_it_in_one_line(lab: Lab) -> None:
    folder = broken_voc(lab.folder / "v", "number")
    result = lab.train("model=detector", "data=voc", f"data.path={folder}")
    assert result.code == 2 and len(result.err.strip().splitlines()) == 1 and "object 2: 'abc'" in result.err
    result = lab.run("inspect", "data=coco", f"data.path={coco(lab.folder / 'c')}", f"output={lab.folder}/a.png")
    assert result.code == 0, result.err
    assert "4 train, 1 val, 1 test, by class below" in result.out and "detector" in result.out
    assert (lab.folder / "a.png").is_file()


# scenes and augmentation ---------------------------------------------------------------------------------------------


def test_scenes_are_the_same_each_time_and_their_boxes_hold_the_ink() -> None:
    first, second = (Scenes(scenes=40, noise=0, seed=seed, val_fraction=0.1, test_fraction=0.1) for seed in (1, 2))
    for data in (first, second):
        data.setup("fit")
    assert first.spec.sha256 == second.spec.sha256
    assert first.spec.splits == {"train": 32, "val": 4, "test": 4}
    for image, boxes, labels in zip(*(first.splits["train"][k] for k in ("input", "boxes", "labels")), strict=True):
        ink = image[0] > 100
        for x1, y1, x2, y2 in boxes[labels >= 0].int().tolist():
            assert ink[y1:y2, x1:x2].any()
            ink[y1:y2, x1:x2] = False
        assert not ink.any()
    with pytest.raises(UserError, match=r"from 8 to data\.size=16"):
        Scenes(size=16)


def squares(boxes: list[list[int]], side: int = 32) -> dict[str, torch.Tensor]:
    """A batch of one image for each box, which is white on the grey that comes in from outside."""
    images = torch.full((len(boxes), 3, side, side), 114, dtype=torch.uint8)
    for image, (x1, y1, x2, y2) in zip(images, boxes, strict=True):
        image[:, y1:y2, x1:x2] = 255
    return {
        "input": images,
        "boxes": torch.tensor(boxes, dtype=torch.float32).unsqueeze(1),
        "labels": torch.zeros(len(boxes), 1, dtype=torch.int64),
        "index": torch.arange(len(boxes)),
    }


CHANGES = [{"flip": True}, {"flip_vertical": True}, {"turn": True}, {"scale": 0.3}, {"stretch": 0.3}, {"shift": 0.2}]


@pytest.mark.parametrize("options", [*CHANGES, {k: v for change in CHANGES for k, v in change.items()}], ids=str)
def test_boxes_follow_their_squares(options: dict[str, Any]) -> None:
    batch = squares([[4 + i % 3, 6, 12 + i % 5, 20 + i % 4] for i in range(32)])
    changed = BoxAugment(**options)(batch, seed=1, epoch=2)
    assert not torch.equal(changed["input"], batch["input"])
    seen = 0
    for image, box, label in zip(changed["input"], changed["boxes"][:, 0], changed["labels"][:, 0], strict=True):
        rows, columns = (image[0] > 184).any(1).nonzero(), (image[0] > 184).any(0).nonzero()
        if label < 0:
            assert (box == 0).all()
            continue
        seen += 1
        drawn = torch.stack([columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1])
        assert (drawn - box).abs().max() <= 1  # half a pixel each side, rounded
    assert seen > 16


def test_augmentation_depends_on_seed_epoch_and_index_alone() -> None:
    augment = BoxAugment(flip=True, scale=0.3, shift=0.2, stretch=0.2, color=0.3)
    batch = squares([[4, 6, 12, 20 + i % 4] for i in range(16)])
    whole = augment(batch, seed=1, epoch=2)
    order = torch.tensor([9, 3, 11])
    some = augment({name: values[order] for name, values in batch.items()}, seed=1, epoch=2)
    for name in ("input", "boxes", "labels"):
        assert torch.equal(some[name], whole[name][order]), name
    assert not torch.equal(augment(batch, seed=1, epoch=3)["input"], whole["input"])
    assert not torch.equal(augment(batch, seed=2, epoch=2)["input"], whole["input"])


def test_boxes_that_leave_the_image_go() -> None:
    batch = squares([[0, 0, 6, 6], [28, 28, 32, 32]] * 8)
    changed = BoxAugment(shift=0.3)(batch, seed=0, epoch=0)
    gone = changed["labels"][:, 0] < 0
    assert 0 < gone.sum() < 16 and (changed["boxes"][gone] == 0).all()
    inside = changed["boxes"][~gone]
    assert (inside >= 0).all() and (inside <= 32).all() and (inside[..., 2:] > inside[..., :2]).all()
    with pytest.raises(UserError, match="is for square inputs"):
        BoxAugment(turn=True)({**batch, "input": batch["input"][..., :30]}, seed=0, epoch=0)
    with pytest.raises(UserError, match="between 0 and 0.9"):
        BoxAugment(scale=1.0)


# real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(real_data() is None, reason="no real data: set LABBOOK_DATA")
def test_blood_cells(tmp_path, data_folder: Path) -> None:
    import tarfile

    with tarfile.open(data_folder / "bccd" / "BCCD.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    data = ready(Voc(path=tmp_path / "BCCD", size=64))
    assert data.spec.splits == {"train": 205, "val": 87, "test": 72}
    assert data.spec.class_names == ("Platelets", "RBC", "WBC")
    assert sum(data.describe()["boxes"].values()) == 4_886  # of 4,888, two of which have no area
    assert data.counted["without an area, left out"] == 2
