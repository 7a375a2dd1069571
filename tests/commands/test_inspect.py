"""A look at data before training: each finding where there is something to find and where there is not; the command."""

from __future__ import annotations

import csv
import inspect as standard
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import src.inspect  # noqa: F401  (must not stand in the way of the standard library's module of that name)
from src.analysis.data_checks import Finding
from src.commands.inspect import inspect
from src.config import compose, recipes
from src.data.core.chunks import pieces
from src.data.core.memmap import MappedRows
from src.errors import UserError
from src.experiment.build import families

RANDOM = np.random.default_rng(0)
ROWS = 200


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Whatever ran before."""
    RANDOM.bit_generator.state = np.random.default_rng(0).bit_generator.state


def look(*options: str) -> dict[str, Finding]:
    """What is found in such data, by subject; the last one of several."""
    return {found.subject: found for found in inspect(compose([*options, "output=null"], "inspect"))}


def table(path: Path, **columns) -> str:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


def columns(**changed) -> dict:
    """A table in which there is nothing to find, but for what is changed."""
    return {"a": RANDOM.normal(size=ROWS), "b": RANDOM.normal(size=ROWS), "y": RANDOM.permutation(ROWS) % 2} | changed


def look_at(path: Path, *options: str, **changed) -> dict[str, Finding]:
    return look("data=csv", f"data.path={table(path, **columns(**changed))}", "data.target=y", *options)


# findings -------------------------------------------------------------------------------------------------------------


def test_in_plain_data_there_is_nothing_to_find(tmp_path, capsys) -> None:
    assert look_at(tmp_path / "t.csv") == {}
    assert "nothing to look into was found" in capsys.readouterr().out
    assert look("data=digits") == {}
    assert look("data=breast_cancer") == {}  # whose best single column has an AUROC of 0.97
    assert look("data=dates", "data.rows=300") == {}


def test_classes_of_very_different_size(tmp_path) -> None:
    rare = np.where(RANDOM.permutation(ROWS) < 12, "rare", "often")
    found = look_at(tmp_path / "t.csv", y=rare)
    assert found["imbalance"].level == "warning"
    assert "often has 112 training rows, rare 8, 14 times fewer" in found["imbalance"].text
    assert found["few rows"].text == "classes of fewer than 10 training rows: rare (8)"
    found = look_at(tmp_path / "t.csv", y=np.where(RANDOM.permutation(ROWS) < 30, "rare", "often"))
    assert found == {}  # 18 and 102


def test_empty_cells_and_constant_columns(tmp_path) -> None:
    mostly = [str(i % 7) if i % 5 == 0 else "" for i in range(ROWS)]
    partly = [str(i % 7) if i % 5 else "" for i in range(ROWS)]
    found = look_at(tmp_path / "t.csv", m=mostly, p=partly, c=[5] * ROWS, k=["same"] * ROWS)
    assert found["missing"].text == "most cells are empty in m (80 %)"
    assert found["constant"].text == "the training rows have one value only in c, k"
    days = [f"2024-03-{1 + i % 31:02}" for i in range(ROWS)]  # no hours, and one month: no fault of the column
    assert look_at(tmp_path / "t.csv", d=days) == {}
    assert look_at(tmp_path / "t.csv", d=["2024-03-01"] * ROWS)["constant"].text.endswith("one value only in d days")


@pytest.mark.parametrize("kind", ["binary", "classification", "regression"])
def test_a_column_that_alone_foretells_the_target(tmp_path, kind) -> None:
    label = RANDOM.permutation(ROWS) % {"binary": 2, "classification": 4, "regression": ROWS}[kind]
    y = label * 1.5 if kind == "regression" else [f"class {i}" for i in label]
    noise = RANDOM.normal(size=ROWS)
    assert look_at(tmp_path / "t.csv", half=label + label.std() * noise, y=y) == {}  # tells much, and not too much
    metric = {"binary": "AUROC", "classification": "balanced accuracy", "regression": "R2"}[kind]
    found = look_at(tmp_path / "t.csv", made=label * -2.0 + 0.01 * noise, y=y)["leak"]
    assert found.level == "warning" and found.text.startswith(f"made alone predicts the target ({metric} ")
    if kind != "regression":
        words = [f"word {i}" for i in label]
        assert look_at(tmp_path / "t.csv", word=words, y=y)["leak"].text.startswith("word alone")


def test_a_column_that_foretells_a_target_which_alternates_or_is_rare(tmp_path) -> None:
    for period in (2, 20):
        y = [int(i % period == 0) for i in range(400)]
        parts = ["train" if i < 200 else "val" if i < 300 else "test" for i in range(400)]
        made = {"a": RANDOM.normal(size=400), "b": [f"w{value}" for value in y], "y": y, "part": parts}
        table(tmp_path / "t.csv", **made)
        found = look("data=csv", f"data.path={tmp_path}/t.csv", "data.target=y", "data.split_column=part")
        assert found["leak"].text.startswith("b alone predicts the target (AUROC 1.0000")


def test_a_name_that_stands_in_each_row_once_is_no_leak(tmp_path) -> None:
    """Judged on the rows it was fitted to, it would be."""
    codes = [f"code {i // 2}" for i in RANDOM.permutation(ROWS)]
    assert "leak" not in look_at(tmp_path / "t.csv", code=codes)


def test_rows_in_the_order_of_the_target(tmp_path) -> None:
    found = look_at(tmp_path / "t.csv", y=[i // 100 for i in range(ROWS)])["order"]
    assert found.level == "note" and "rows lie class by class" in found.text
    values = np.sort(RANDOM.normal(size=ROWS))
    assert "in the order of the target" in look_at(tmp_path / "t.csv", y=values)["order"].text
    assert "in the order of the target" in look_at(tmp_path / "t.csv", y=values[::-1])["order"].text
    assert "order" not in look_at(tmp_path / "t.csv", y=RANDOM.permutation(values))
    assert "order" not in look_at(tmp_path / "t.csv", y=[i // 50 % 2 for i in range(ROWS)])  # twice around


def test_values_far_from_all_others(tmp_path) -> None:
    far = 20 + RANDOM.normal(size=ROWS)
    assert "outliers" not in look_at(tmp_path / "t.csv", far=far)
    far[:40:8] = 5000
    found = look_at(tmp_path / "t.csv", far=far)["outliers"]
    assert found.level == "note" and " of 120: 1" in found.text and " to 5000, half of all are 19" in found.text
    assert "outliers" not in look_at(tmp_path / "t.csv", "data.numbers=quantile", far=far)
    tiny = 1e-9 * RANDOM.normal(size=ROWS)
    tiny[:8] = 1e-6
    assert "1e-06, half of all are -" in look_at(tmp_path / "t.csv", tiny=tiny)["outliers"].text
    skewed = np.where(np.arange(ROWS) % 8 == 0, 1e4, RANDOM.normal(size=ROWS))
    assert "in the target (" in look_at(tmp_path / "t.csv", y=skewed)["outliers"].text


def test_a_target_that_never_changes(tmp_path) -> None:
    found = look_at(tmp_path / "t.csv", "task=regression", y=[2.5] * ROWS)
    assert found["target"].text == "it is 2.5000 in every training row" and "leak" not in found


def test_rows_of_a_table_in_two_parts(tmp_path) -> None:
    train, test = columns(), columns()
    assert "shared rows" not in look_at(
        tmp_path / "t.csv", f"data.test_path={table(tmp_path / 'test.csv', **test)}", **train
    )
    for row in (3, 8, 9):  # to three rows of the test split what stands in train, and once another target
        test["a"][row], test["b"][row] = train["a"][row + 1], train["b"][row + 1]
        test["y"][row] = train["y"][row + 1] if row != 8 else 1 - train["y"][row + 1]
    options = [f"data.test_path={table(tmp_path / 'test.csv', **test)}", f"data.val_path={tmp_path}/val.csv"]
    table(tmp_path / "val.csv", **columns())
    for memory in ("true", "false"):
        found = look_at(tmp_path / "t.csv", *options, f"data.in_memory={memory}", **train)["shared rows"]
        assert found.text.startswith(
            "3 of 200 rows of test (1.5 %) equal a row of train in all that a model sees, 2 of"
        )
        assert (
            "rows: test row 4 of test.csv = train row 5 of t.csv, test row 9 of test.csv = train row 10 of"
            in found.text
        )


def test_rows_that_were_drawn_are_named_as_in_the_file(tmp_path) -> None:
    changed = columns()
    for row in range(0, ROWS, 2):
        changed["a"][row], changed["b"][row] = changed["a"][row + 1], changed["b"][row + 1]
    text = look_at(tmp_path / "t.csv", **changed)["shared rows"].text.rpartition("rows: ")[2]
    for pair in text.split(", "):
        one, other = (int(side.split()[2]) for side in pair.split(" = "))
        assert abs(one - other) == 1 and max(one, other) % 2 == 0


def pictures(folder: Path) -> None:
    for part in ("train", "test"):
        for label in "ab":
            (folder / part / label).mkdir(parents=True)
            for i in range(10):
                grey = RANDOM.integers(0, 256, (12, 12), np.uint8)
                Image.fromarray(grey).save(folder / part / label / f"{part}{i}.png")


@pytest.mark.parametrize("memory", ["true", "false"])
def test_pictures_in_two_parts_are_named(tmp_path, memory) -> None:
    pictures(tmp_path)
    options = ["data=image_folder", f"data.path={tmp_path}", f"data.in_memory={memory}"]
    assert list(look(*options)) == ["few rows"]
    shutil.copy(tmp_path / "test" / "b" / "test4.png", tmp_path / "train" / "b" / "again.png")
    # the copy may be drawn for validation: then it is shared with that part
    found = look(*options)["shared rows"].text
    assert found.startswith("1 of 20 rows of test (5.0 %)") and "test/b/test4.png = " in found
    assert "train/b/again.png" in found


def test_texts_in_two_parts_whatever_else_is_in_their_batch(tmp_path) -> None:
    words = [" ".join(RANDOM.choice(list("abcdefghijklmnopqrstuvwxyz"), 1 + i % 9)) for i in range(300)]
    words = list(dict.fromkeys(words))
    path = table(tmp_path / "t.csv", text=words, label=[f"class {i % 2}" for i in range(len(words))])
    options = ["data=text_csv", f"data.path={path}", "data.level=char"]
    assert "shared rows" not in look(*options)
    table(tmp_path / "t.csv", text=[*words, *words[:80]], label=[f"class {i % 2}" for i in range(len(words) + 80)])
    assert "shared rows" in look(*options)


def test_windows_of_a_series_share_steps_by_design(tmp_path) -> None:
    steps = np.arange(200)
    path = table(tmp_path / "t.csv", date=steps, x=np.sin(steps), flat=[1.0] * 200)
    found = look("data=series", f"data.path={path}", "data.context=4")
    assert list(found) == ["constant"] and found["constant"].text.endswith("in flat")
    table(tmp_path / "t.csv", date=steps, x=np.sin(steps), z=np.where(steps == 50, 1e5, np.cos(steps)))
    assert "z (1 of 140: " in look("data=series", f"data.path={path}", "data.context=4")["outliers"].text


def test_rows_are_read_a_few_at_a_time() -> None:
    column = MappedRows(5000, 2000)
    read = list(pieces(column))
    assert max(values.numel() for _, values in read) <= 1 << 22
    assert torch.equal(torch.cat([index for index, _ in read]), torch.arange(5000))
    assert [len(index) for index, _ in pieces(column, rows=7)] == [7]


# the command ----------------------------------------------------------------------------------------------------------


def test_the_standard_module_is_still_there() -> None:
    assert standard.signature(look) and standard.__name__ == "inspect"


def test_data_by_data_the_models_that_fit(lab) -> None:
    result = lab.run("inspect")
    assert (result.code, result.err) == (0, "")
    lines: dict[str, str] = {}
    for line in result.out.splitlines():
        data, _, models = line.partition(" ")
        name = data or list(lines)[-1]  # a long line goes on in the next
        lines[name] = f"{lines.get(name, '')} {models.strip()}".strip()
    root = Path(__file__).resolve().parents[2]
    known = {path.stem for path in (root / "conf" / "model").glob("*.yaml")}
    assert set(recipes.names("data")) <= lines.keys() and "_common" not in result.out
    assert lines["dates"] == "seq2seq: pretrained t5"
    assert lines["iris"] == "reconstruction: autoencoder; classification: fnn keras; density: vae"
    assert "binary or classification or regression: fnn" in lines["csv"]
    assert "generation: gan wgan" in lines["digits"]
    assert known <= set(" ".join(lines.values()).replace(";", "").split())  # each fits something


def test_what_was_inferred_is_printed_and_rows_are_drawn(lab) -> None:
    path = table(lab.folder / "t.csv", **columns(kind=["p", "q"] * 100, id=range(1, ROWS + 1)))
    options = ["data=csv", f"data.path={path}", "data.target=y"]
    result = lab.run("inspect", *options)
    assert result.code == 0, result.err
    assert "rows      120 train, 40 val, 40 test" in result.out
    assert "models that fit: autoencoder (reconstruction); fnn, keras (binary)" in result.out
    assert "row numbers" in result.out and "2 categories: " in result.out
    picture = lab.folder / "inspect.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    picture.write_text("mine")
    result = lab.run("inspect", *options)
    assert (result.code, result.err.count("\n")) == (2, 1) and "output=inspect.png exists: force=true" in result.err
    assert picture.read_text() == "mine" and result.out == ""
    assert lab.run("inspect", *options, "force=true", "task=classification").code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {entry.name for entry in lab.folder.iterdir() if entry.name[0] != "."} == {"t.csv", "inspect.png"}


@pytest.mark.parametrize("name", ["digits", "diabetes", "adding", "wine"])
def test_every_kind_has_a_picture(lab, name) -> None:
    options = {"digits": ["data.augment.rotate=20"], "adding": ["data.rows=100"]}.get(name, [])
    result = lab.run("inspect", f"data={name}", *options, "output=p.png")
    assert result.code == 0, result.err
    image = np.asarray(Image.open(lab.folder / "p.png").convert("L"))
    assert image.std() > 10


def test_texts_are_printed_and_nothing_is_written(lab) -> None:
    words = RANDOM.permutation(["good film", "bad film"] * 50)
    path = table(lab.folder / "t.csv", text=[f"{w} {i}" for i, w in enumerate(words)], label=[w[:3] for w in words])
    result = lab.run("inspect", "data=text_csv", f"data.path={path}")
    assert result.code == 0, result.err
    assert "vocabulary" in result.out and "tokens, " in result.out and "good film" in result.out
    assert not (lab.folder / "inspect.png").exists()


def test_mistakes_get_one_line(lab) -> None:
    for arguments, message in (
        (["data=digit"], "there is no such data (did you mean digits?)"),
        (["data=csv"], "data.path: has no default"),
        (["data.path=a.csv"], "data.path: of which data? add data=NAME"),
        (["data=csv", "data.path=nowhere.csv", "data.target=y"], "nowhere.csv"),
        (["data=digits", "output=a.jpg"], "output=a.jpg: a name that ends in .png"),
        (["data=digits", "output=nowhere/a.png"], "there is no folder nowhere"),
        (["data=digits", "rows=0"], "rows=0 must be at least 1"),
        (["data=digits", "ouput=a.png"], "unknown option (did you mean output?)"),
        (["data=digits", "data.batchsize=3"], "did you mean batch_size?"),
    ):
        result = lab.run("inspect", *arguments)
        assert (result.code, result.err.count("\n"), result.out) == (2, 1, ""), result.err
        assert message in result.err


def test_a_model_that_cannot_be_imported_is_named_by_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "names", lambda group: ("linear",))
    for target in ("src.models.Linear", "src.models.linear.Linear"):
        monkeypatch.setattr(recipes, "load", lambda group, name, target=target: {"_target_": target})
        with pytest.raises(UserError, match=f"^conf/model/linear.yaml: {target} cannot be imported: "):
            families()
