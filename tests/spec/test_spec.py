"""The spec: what it holds of each modality, as plain containers and back, and how that of earlier releases is read."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from src.errors import UserError
from src.spec import (
    Actions,
    AudioSpec,
    Boxes,
    Classes,
    ColumnSchema,
    DataSpec,
    EnvironmentSpec,
    Horizon,
    ImageSpec,
    InputSpec,
    InteractionsSpec,
    LogMelSpec,
    Number,
    SeriesSpec,
    TableSpec,
    TargetSpec,
    TextPairSpec,
    TextSpec,
    TokenizedSpec,
)
from src.spec.packed_interactions import Interactions
from src.spec.tokenizer import Tokenizer
from tests.tiny import dataset

# what `to_dict` of the last release with one flat dict wrote for a dataset of each modality
FLAT = json.loads((Path(__file__).parent / "fixtures" / "spec_v1.json").read_text(encoding="utf-8"))

COLUMNS = (
    ColumnSchema("a", "number", missing=True, fill=(1.0,), mean=(2.0,), std=(3.0,)),
    ColumnSchema("b", "category", categories=("x", "")),
)
INPUTS = [
    TableSpec((3,), (0.5,) * 3, (2.0,) * 3, (0.0,) * 5, ("a", "a missing", "b"), columns=COLUMNS, cardinalities=(3,)),
    ImageSpec((1, 4, 4), (0.5,), (0.25,), levels=16, crop=(0.25, 0.125)),
    AudioSpec((1, 51, 8), (-15.0,), (6.0,), log_mel=LogMelSpec(8_000, 0.5, n_mels=8)),
    TextSpec((9,), tokenizer="{}", token_counts=(0, 1, 2), characters_per_token=1.5),
    TextPairSpec((9,), tokenizer="{}", token_counts=(0, 1, 2), target_length=7),
    SeriesSpec((24, 2), (1.0, 2.0), (3.0, 4.0), feature_names=("load", "heat"), season=12, differenced=True),
    InteractionsSpec(
        (22,), users=("u",), items=("i", "j"), item_names=("I", "J"), packed="eJw", rating_range=(1.0, 5.0)
    ),
    EnvironmentSpec((4,), id="CartPole-v1", max_steps=500, copies=8),
]
TARGETS = [
    None,
    Classes(("a", "b", "c"), (2, 0, 0), anomalies=("b",), held_out_test=("c",), held_out_val=("b",)),
    Boxes(("a", "b"), (2, 1), mean_boxes=((0.0, 1.0, 2.0, 3.0), (4.0, 5.0, 6.0, 7.0)), most=4),
    Actions(("left", "right")),
    Number(151.4, 75.9),
    Horizon(3, (0.5, 1.0)),
]


def spec(form: InputSpec, target: TargetSpec | None = None) -> DataSpec:
    return DataSpec("made", ("some", "other"), {"train": 7, "test": 2}, form, target, 0.5, "ab12")


def test_general_code_may_ask_seven_things() -> None:
    names = ["name", "tasks", "splits", "input", "target", "train_fraction", "sha256"]
    assert [field.name for field in fields(DataSpec)] == names


@pytest.mark.parametrize("form", INPUTS, ids=lambda form: form.modality)
def test_each_modality_comes_back_from_plain_containers(form) -> None:
    made = spec(form)
    written = made.to_dict()
    assert written["version"] == 2 and written["modality"] == form.modality == made.modality
    file = io.BytesIO()
    torch.save(written, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == written
    assert DataSpec.from_dict(written) == made
    assert DataSpec.from_dict(json.loads(json.dumps(written))) == made


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_each_target_comes_back_from_plain_containers(target) -> None:
    made = spec(INPUTS[0], target)
    assert DataSpec.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_all_modalities_are_tried_here() -> None:
    assert {type(form) for form in INPUTS} == {form for form in _below(InputSpec) if form.modality}
    assert {type(target) for target in TARGETS if target} == {target for target in _below(TargetSpec) if target.form}


def _below(base: type) -> set[type]:
    """Subclasses of the project itself; another test may have brought one of its own."""
    ours = [child for child in base.__subclasses__() if child.__module__.startswith("src.")]
    return {one for child in ours for one in (child, *_below(child))}


def test_names_that_are_not_known_are_left_out_and_a_modality_that_is_not_known_is_named() -> None:
    written = spec(INPUTS[1], TARGETS[1]).to_dict()
    written["input"]["depth"], written["target"]["mood"] = 3, "good"
    assert DataSpec.from_dict(written) == spec(INPUTS[1], TARGETS[1])
    with pytest.raises(UserError, match="imagge is no modality of data that is known here.*image"):
        DataSpec.from_dict(written | {"modality": "imagge"})
    with pytest.raises(UserError, match="smell is no form of target"):
        DataSpec.from_dict(written | {"target": {"form": "smell"}})


# what models and general code see -------------------------------------------------------------------------------------


def test_sound_is_taken_as_images_and_pairs_of_texts_are_not_taken_as_texts() -> None:
    by_name = {form.modality: form for form in INPUTS}
    assert isinstance(by_name["audio"], ImageSpec) and not isinstance(by_name["image"], AudioSpec)
    assert not isinstance(by_name["text_pairs"], TextSpec)
    assert all(isinstance(by_name[name], TokenizedSpec) for name in ("text", "text_pairs"))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_classes_are_there_whatever_the_target(target) -> None:
    made, names = spec(INPUTS[0], target), getattr(target, "names", ())
    assert (made.class_names, made.num_classes) == (names, len(names))
    assert made.class_counts == getattr(target, "counts", ())
    assert set(made.held_out) == ({"b", "c"} if isinstance(target, Classes) else set())


def test_values_of_the_input_can_be_changed() -> None:
    changed = spec(INPUTS[1]).with_input(mean=(7.0,))
    assert changed.input.mean == (7.0,) and changed.input.levels == 16 and spec(INPUTS[1]).input.mean == (0.5,)


def test_sizes_that_follow_from_others() -> None:
    assert INPUTS[0].num_numeric == 2 and INPUTS[6].history_length == 10


def test_importing_the_spec_imports_no_torch() -> None:
    code = "import sys, src.spec; print('torch' in sys.modules or 'tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


# version 1 ------------------------------------------------------------------------------------------------------------


def test_a_table_of_a_file_from_a_flat_dict() -> None:
    read, flat = DataSpec.from_dict(FLAT["csv"]), FLAT["csv"]
    assert (read.name, read.sha256, read.train_fraction) == ("csv", flat["sha256"], 1.0)
    assert read.tasks == tuple(flat["tasks"]) and read.splits == flat["sizes"]
    assert read.input_shape == (9,) and read.input.cardinalities == (5,) and read.input.mean == ()
    assert read.input.average == tuple(flat["average"]) and read.input.feature_names == tuple(flat["feature_names"])
    size, colour, day = read.input.columns
    assert isinstance(size, ColumnSchema) and size.missing and size.fill == (4.0,)
    assert colour.categories == ("blue", "green", "", "red") and colour.cardinality == 5
    assert day.type == "date" and day.format == "ISO8601" and len(day.features) == 6
    assert read.target == Classes(("0", "1"), (27, 27))


def test_a_number_and_its_units_from_a_flat_dict() -> None:
    for name in ("diabetes", "adding", "low_rank_ratings"):
        read = DataSpec.from_dict(FLAT[name])
        assert read.target == Number(FLAT[name]["target_mean"], FLAT[name]["target_std"])
    assert DataSpec.from_dict(FLAT["diabetes"]).input.std == tuple(FLAT["diabetes"]["input_std"])
    plain = FLAT["adding"] | {"target_mean": 0.0, "target_std": 1.0}
    assert DataSpec.from_dict(plain).target == Number(0.0, 1.0)


def test_images_from_a_flat_dict() -> None:
    digits, glyphs = DataSpec.from_dict(FLAT["digits"]), DataSpec.from_dict(FLAT["glyphs"])
    assert type(digits.input) is ImageSpec and digits.input.levels == 16 and len(digits.input.average) == 64
    assert digits.num_classes == 10 and sum(digits.class_counts) == digits.splits["train"]
    assert DataSpec.from_dict(FLAT["digits_anomalies"]).target.anomalies == ("1", "2")
    assert glyphs.target.held_out_test == ("letter7", "letter8", "letter9")
    assert glyphs.target.held_out_val == ("letter5", "letter6")
    scenes = DataSpec.from_dict(FLAT["scenes"])
    assert type(scenes.input) is ImageSpec and isinstance(scenes.target, Boxes)
    assert scenes.target.most == 5 and scenes.target.mean_boxes[0] == tuple(FLAT["scenes"]["boxes"]["mean"][0])
    tones = DataSpec.from_dict(FLAT["tones"])
    assert tones.input.log_mel == LogMelSpec(8_000, 0.5, n_mels=8) and tones.class_names[0] == "rising"
    cropped = DataSpec.from_dict(FLAT["digits"] | {"crop": [0.375, 0.125]})
    assert cropped.input.crop == (0.375, 0.125)


def test_text_from_a_flat_dict() -> None:
    names, pairs = DataSpec.from_dict(FLAT["names"]), DataSpec.from_dict(FLAT["dates"])
    assert type(names.input) is TextSpec and names.num_classes == 3
    assert type(pairs.input) is TextPairSpec and pairs.input.target_length == 7 and pairs.target is None
    for read in (names, pairs):
        assert len(Tokenizer(read.input.tokenizer)) == read.input.vocabulary_size
    assert DataSpec.from_dict(FLAT["topics"]).target is None and DataSpec.from_dict(FLAT["squad"]).target is None


def test_a_series_from_a_flat_dict() -> None:
    read = DataSpec.from_dict(FLAT["series"] | {"season": 12, "differenced": True})
    assert read.target == Horizon(1, tuple(FLAT["series"]["naive_errors"]))
    assert (read.input.season, read.input.differenced, read.input_shape) == (12, True, (24, 2))


def test_interactions_from_a_flat_dict() -> None:
    read = DataSpec.from_dict(FLAT["low_rank_ratings"])
    known = Interactions.of(read.input)
    assert len(known.users) == read.splits["train"] and int(known.items.max()) <= len(read.input.items)
    assert read.input.rating_range == (known.ratings.min().item(), known.ratings.max().item())
    assert read.input.history_length == 50


def test_an_environment_from_a_flat_dict() -> None:
    read = DataSpec.from_dict(FLAT["environment"])
    assert (read.input.id, read.input.max_steps, read.input.copies) == ("CartPole-v1", 500, 2)
    assert read.target == Actions(("0", "1")) and read.class_counts == () and len(read.input.average) == 4


def test_an_early_flat_dict_that_lacks_fields() -> None:
    read = DataSpec.from_dict({"name": "x", "kind": "table", "tasks": ["binary"], "input_shape": [2], "sizes": {}})
    assert read == DataSpec("x", ("binary",), {}, TableSpec((2,)))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        *[("csv", "csv"), ("text_csv", "names"), ("text_file", "topics"), ("lines", "dates"), ("squad", "squad")],
        *[("series", "series"), ("environment", "environment"), ("glyphs", "glyphs")],
    ],
)
def test_the_same_rows_measured_now_give_what_is_read_of_then(data, name) -> None:
    """The dataset module measures what the last release measured, and the fingerprint is the same."""
    assert dataset(data).spec == DataSpec.from_dict(FLAT[name])
