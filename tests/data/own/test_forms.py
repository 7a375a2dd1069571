"""Forms of a researcher's own data, as they are: what each becomes, and what it is told."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.config import compose
from src.data.core.module import DataModule
from src.data.images.inputs import Pictures
from src.data.tables.inputs import Arrays
from src.data.tables.npz import of_spec
from src.errors import UserError
from src.experiment.build import build_data
from src.spec import ImageSpec, SeriesSpec, TextSpec
from tests.conftest import ROOT, Lab

PLACE = "tests.data.own.forms"


def own(name: str, *overrides: str, seed: int = 0) -> DataModule:
    data = build_data(compose([f"data._target_={PLACE}.{name}", *overrides]).data, seed=seed)
    data.prepare_data()
    data.setup("fit")
    return data


def refusal(name: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        own(name, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def epoch(data: DataModule, number: int) -> list[dict[str, torch.Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def equal(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in a)


# tables --------------------------------------------------------------------------------------------------------------


def test_a_data_frame_is_read_as_a_file_of_it_is(tmp_path: Path) -> None:
    from tests.data.own.forms import frame

    frame().to_csv(tmp_path / "frame.csv", index=False)
    data, file = (
        own("frame"),
        build_data(compose(["data=csv", f"data.path={tmp_path}/frame.csv", "data.target=kind"]).data),
    )
    file.setup("fit")
    assert data.spec.input.feature_names == file.spec.input.feature_names and data.spec.class_names == ("x", "y", "z")
    assert data.spec.sha256 == file.spec.sha256
    assert "town" not in own("frame", "data.ignore=[town]").spec.input.feature_names
    assert "column age is missing in rows 7, 15, 21 and 15 more" in refusal("frame", "data.target=age")
    assert "has no column kidn (did you mean kind?)" in refusal("frame", "data.target=kidn")


@pytest.mark.parametrize("name", ["frame_and_target", "Arrow", "columns", "hub_table"])
def test_tables_of_other_kinds(name: str) -> None:
    data = own(name)
    assert data.spec.class_names == ("x", "y", "z") and data.spec.splits == {"train": 72, "val": 24, "test": 24}
    assert data.spec.input.cardinalities and data.spec.input_shape == own("frame").spec.input_shape


def test_tables_by_split_and_of_records() -> None:
    data = own("frames")
    assert data.spec.splits == {"train": 80, "val": 20, "test": 20} and data.row_name("test", 3) == "test row 4"
    assert own("records").spec.class_names == ("no", "yes")


# arrays, texts, iterables --------------------------------------------------------------------------------------------


def test_lists_are_arrays_and_are_kept_in_memory() -> None:
    data = own("lists")
    assert data.spec.input_shape == (2,) and isinstance(data.splits["train"]["input"], torch.Tensor)
    data = own("keras")
    assert data.spec.splits == {"train": 48, "val": 12, "test": 30} and data.spec.input_shape == (1, 8, 8)


def test_integers_are_classes_and_floats_are_numbers() -> None:
    assert own("boundaries").spec.num_classes == 12
    assert build_data(compose([f"data._target_={PLACE}.boundaries"]).data, task="regression").task == "regression"
    assert own("Stream").spec.tasks[0] == "regression"


@pytest.mark.parametrize("name", ["texts", "text_series", "hub", "hub_stream"])
def test_texts_with_labels(name: str) -> None:
    data = own(name, "data.max_tokens=8")
    assert isinstance(data.spec.input, TextSpec) and data.spec.tasks[0] == "classification"
    assert data.spec.class_names == (("bad", "good") if name.startswith("text") else ("neg", "pos"))


def test_pictures_of_hugging_face_have_their_classes() -> None:
    data = own("hub_pictures")
    assert isinstance(data.spec.input, ImageSpec) and data.spec.class_names == ("dark", "light")


def test_an_endless_iterable_is_cut_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    data = own("endless", "data.max_rows=200")
    assert data.spec.splits["train"] == 120 and not capsys.readouterr().err
    assert own("endless", "data.max_rows=200").spec.sha256 == data.spec.sha256  # the same rows again
    assert sum(own("endless").spec.splits.values()) == 100_000
    assert (
        "the first 100,000 items of an iterable were read, there are more; data.max_rows=N" in capsys.readouterr().err
    )


# pictures ------------------------------------------------------------------------------------------------------------


def test_pictures_of_floats_are_asked_in_their_own_scale(tmp_path: Path) -> None:
    spec = own("Floats").spec
    assert isinstance(spec.input, ImageSpec) and spec.input.levels == 1 and spec.input_shape == (3, 8, 8)
    Image.fromarray(np.full((8, 8, 3), 51, np.uint8)).save(tmp_path / "grey.png")
    (rows,) = Pictures(spec, path=tmp_path / "grey.png").batches(4)
    assert rows.input.unique().tolist() == pytest.approx([0.2])
    values = np.random.default_rng(0).random((5, 3, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "new.npz", x=values)
    (rows,) = Arrays(spec, path=tmp_path / "new.npz").batches(9)
    assert np.array_equal(rows.input.numpy(), values)
    assert of_spec(np.full((2, 8, 8, 3), 255, np.uint8), spec, "").unique().tolist() == [1.0]
    other = own("Floats", "data.scale=3").spec
    assert other.input.levels == 0 and "generation" not in other.tasks
    with pytest.raises(UserError, match="into other numbers; give such numbers in an .npz archive"):
        list(Pictures(other, path=tmp_path / "grey.png").batches(4))


# what is random ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Noisy", "Keeping", "Mixing"])
def test_random_items_are_a_function_of_seed_and_epoch(name: str) -> None:
    data, again = own(name), own(name)
    state = torch.get_rng_state()
    first, second = epoch(data, 0), epoch(data, 1)
    assert torch.equal(torch.get_rng_state(), state)  # nothing else is moved
    np.random.seed(7), torch.manual_seed(7)
    assert equal(epoch(again, 1), second) and equal(epoch(again, 0), first)  # in whatever order
    by_row = [
        torch.cat([b["input"] for b in part])[torch.cat([b["index"] for b in part]).argsort()]
        for part in (first, second)
    ]
    assert not torch.equal(*by_row)
    assert not equal(epoch(own(name, seed=1), 0), first)
    assert equal(list(data.val_dataloader()), list(again.val_dataloader()))
    assert again.spec.sha256 == data.spec.sha256


def test_random_items_are_the_same_with_workers() -> None:
    loader = own("Noisy", "data.num_workers=2", "data.batch_size=8").train_dataloader()
    assert equal(list(loader), epoch(own("Noisy", "data.batch_size=8"), 0))
    loader.close()


def test_what_is_random_is_told_and_what_is_not_is_kept_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    own("Noisy")
    assert capsys.readouterr().err.startswith("data=Noisy: items are random: in training anew in each epoch")
    own("Hidden")
    told = capsys.readouterr().err
    assert told.startswith(
        "data=Hidden: items are others at every reading, whatever the seed: a resumed run will differ"
    )
    assert told.count("\n") == 1
    assert isinstance(own("Floats").splits["train"]["input"], torch.Tensor) and not capsys.readouterr().err
    late = own("Lately", "data.batch_size=60")
    at = int((late.splits["train"]["input"].rows < 8).nonzero()[-1])
    values = [next(b["input"][b["index"] == at] for b in epoch(late, number)) for number in (0, 1)]
    assert not torch.equal(*values)
    assert "items draw random numbers" in refusal("Noisy", "data.in_memory=true")


# loaders -------------------------------------------------------------------------------------------------------------


def test_a_sampler_is_followed() -> None:
    data = own("Weighted")
    batches = epoch(data, 0)
    assert sum(len(b["index"]) for b in batches) == 40 and all((b["target"] == 2).all() for b in batches)
    assert equal(batches, epoch(own("Weighted"), 0)) and not equal(batches, epoch(data, 1))
    short = epoch(own("WeightedWithoutTest"), 0)  # whose test split is drawn from the rows of training
    assert 25 < sum(len(b["index"]) for b in short) < 40 and all((b["target"] == 2).all() for b in short)


def test_a_batch_sampler_is_followed() -> None:
    data = own("InBatches")
    first = [b["index"].tolist() for b in epoch(data, 0)]
    assert sorted(first) == [list(range(start, start + 10)) for start in range(0, 50, 10)]
    assert first != [b["index"].tolist() for b in epoch(data, 1)] and len(data.train_dataloader()) == 5
    assert "its batch_sampler makes the batches" in refusal("InBatches", "data.batch_size=3")
    loader = data.train_dataloader()
    loader.load_state_dict({"epoch": 0, "batch": 2})
    assert [b["index"].tolist() for b in loader] == first[2:]


def test_a_loader_that_does_not_shuffle_is_followed() -> None:
    batches = epoch(own("InOrder"), 3)
    assert torch.cat([b["index"] for b in batches]).tolist() == list(range(48))


def test_a_collate_fn_makes_the_batches() -> None:
    data = own("Mixing")
    batch = epoch(data, 0)[0]
    plain = torch.stack([data.made["train"].rows[int(row)][0] for row in batch["index"]])
    share = ((batch["input"] - plain.flip(0)) / (plain - plain.flip(0))).nanmedian()
    assert not torch.equal(batch["input"], plain)
    assert torch.allclose(batch["input"], share * plain + (1 - share) * plain.flip(0), atol=1e-4)
    data = own("Padding")
    assert isinstance(data.spec.input, SeriesSpec) and data.spec.input_shape == (7, 2)
    assert {tuple(b["input"].shape[1:]) for b in data.val_dataloader()} == {(7, 2)}


# one line ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mixed", "data=mixed makes a table that cannot be read: Could not convert 'x' with type str"),
        ("several_targets", "data=several_targets, item 0: its target is of shape (3,), one class or one number a row"),
        ("Soft", "data=Soft, item 0: its target is of shape (3,), one class or one number a row is needed; what mixes"),
        ("not_finite", "data=not_finite: item 3 has an input that is not finite (1 of 50 have): fill or leave out"),
        (
            "two_datasets",
            'data: two_datasets makes several datasets: a dict of them by split, {"train": ..., "val": ...}',
        ),
        ("misspelt", "data: misspelt has a split vall (did you mean val?)"),
        ("untrained", "data: untrained has test: a split train is needed"),
        ("unequal", "data=unequal has 50 inputs and 2 targets: one target an input is needed"),
        ("Broken", "data: item 31 of Broken cannot be read (KeyError: 'no 31')"),
        ("failing", f"data: {PLACE}.failing fails (ValueError: no such file)"),
        ("half_labelled", "data=half_labelled, test: items have no target, those of training have one"),
        ("Tokens", "data: item 0 of Tokens has input_ids, labels: give the texts themselves, (texts, labels), which"),
        ("Hooked", "data: Hooked has on_after_batch_transfer, which is not called here: do the same in its dataset"),
        ("Several", "data: Several gives 2 loaders of a split: give one"),
        ("Lengths", "data: item 8 of Lengths is float32 (6, 2), item 0 is float32 (3, 2): all need one form; pad"),
    ],
)
def test_what_does_not_go_is_one_line(name: str, told: str) -> None:
    assert refusal(name).startswith(told)


def test_an_option_of_another_form_is_refused() -> None:
    assert refusal("frame", "data.level=char").startswith("data.level: frame makes tables, which have no such option")
    assert refusal("frame", "data.batch_sise=3").endswith("(did you mean batch_size?)")


# from the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Noisy", "Mixing"])
def test_random_items_resume_to_the_same_bits(lab: Lab, name: str) -> None:
    env = {"PYTHONPATH": str(ROOT), "LABBOOK_TRUST": "tests"}
    given = ["model=fnn", f"data._target_={PLACE}.{name}", "data.batch_size=16", "trainer.max_epochs=5", "threads=1"]
    given += ["tracking.system_metrics=false", "trainer=cpu"]
    assert lab.train(*given, env=env, kill=("step", 7)).code == -signal.SIGKILL
    resumed = lab.train("resume=last", env=env)
    assert resumed.code == 0, resumed.err
    assert lab.train(*given, env=env).code == 0
    whole, cut = lab.runs()
    assert lab.points(whole.info.run_id) == lab.points(cut.info.run_id)
    evaluated = lab.run("evaluate", "run=last", "resamples=10", env=env)
    assert evaluated.code == 0 and "to the last bit" in evaluated.out, evaluated.err


def test_a_frame_is_trained_on_inspected_predicted_and_evaluated(lab: Lab) -> None:
    from tests.data.own.forms import frame

    env = {"PYTHONPATH": str(ROOT), "LABBOOK_TRUST": "tests"}
    seen = lab.run("inspect", f"data._target_={PLACE}.frame", "output=null", env=env)
    assert seen.code == 0 and "town" in seen.out and "category" in seen.out, seen.err
    given = [
        f"data._target_={PLACE}.frame",
        "model=fnn",
        "trainer.max_epochs=2",
        "trainer=cpu",
        "tracking.system_metrics=false",
    ]
    assert lab.train(*given, env=env).code == 0
    frame().drop(columns="kind").to_csv(lab.folder / "new.csv", index=False)
    answered = lab.run("predict", "run=last", "data.path=new.csv", "output=answers.csv", env=env)
    assert answered.code == 0 and len(pd.read_csv(lab.folder / "answers.csv")) == 120, answered.err
    other = lab.run("evaluate", "run=last", f"data._target_={PLACE}.frame", "+data.rows=60", "resamples=10", env=env)
    assert other.code == 0 and "60" in other.out, other.err


def test_series_of_different_lengths_are_padded_trained_on_and_asked(lab: Lab) -> None:
    env = {"PYTHONPATH": str(ROOT), "LABBOOK_TRUST": "tests"}
    given = ["model=lstm", f"data._target_={PLACE}.Padding", "trainer.max_epochs=1", "trainer=cpu"]
    trained = lab.train(*given, "tracking.system_metrics=false", env=env)
    assert trained.code == 0, trained.err
    np.savez(lab.folder / "new.npz", x=np.ones((4, 7, 2), np.float32))
    answered = lab.run("predict", "run=last", "data.path=new.npz", "output=answers.csv", env=env)
    assert answered.code == 0 and len(pd.read_csv(lab.folder / "answers.csv")) == 4, answered.err


def test_a_data_module_without_a_constructor_swallows_no_option() -> None:
    assert own("InOrder", "data.batch_size=8").batch_size == 8
    assert refusal("InOrder", "data.batch_sise=8").endswith("(did you mean batch_size?)")
