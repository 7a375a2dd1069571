"""A modality from outside, registered by the module of its data: used with no shared file changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from src.analysis.explain import attribution, targets
from src.api import Run
from src.config import compose
from src.data.core.modality import Modality, built_in, modality_class, modality_of, register_modality
from src.errors import UserError
from src.experiment.assemble import assemble
from src.inference.answers import base
from src.inference.answers.rows import labelled
from src.inference.load import Trained
from src.runtime.signals import Signals
from src.spec import AudioSpec, DataSpec, ImageSpec, InputSpec
from tests.conftest import ROOT, Lab
from tests.own_modality import CloudModality, CloudSpec, PointNet

DATA = [
    *("data=random_labels", "data._target_=tests.own_modality.Clouds", "data.rows=64", "data.columns=12"),
    *("data.val_rows=32", "data.test_rows=32", "~data.predict_rows", "~data.data_seed"),
]
MODEL = [
    *("model=dlinear", "model._target_=tests.own_modality.PointNet", "model.width=8"),
    *("~model.kernel_size", "~model.window_norm"),
]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """The model as it is built, which answers as a trained one does."""
    parts = assemble(compose([*MODEL, *DATA]), Signals())
    return Trained("own", parts.model.eval(), None)


def test_it_is_trained_and_its_worst_examples_are_told(lab: Lab) -> None:
    given = [*MODEL, *DATA, "trainer.max_epochs=3", "explain=true", "tracking.system_metrics=false"]
    done = lab.train(*given, env={"PYTHONPATH": str(ROOT)})
    assert done.code == 0, done.err
    (run,) = lab.runs()
    assert run.data.tags["labbook.task"] == "classification" and "test/accuracy" in run.data.metrics
    assert "removing by integrated gradients" in done.out
    (table,) = lab.folder.rglob("worst_examples.csv")
    assert table.read_text().splitlines()[0].endswith("probability,centre")
    assert [*lab.folder.rglob("explained_rows.png")]


def test_it_is_inspected(lab: Lab) -> None:
    done = lab.run("inspect", *DATA, "output=some.png", env={"PYTHONPATH": str(ROOT)})
    assert done.code == 0, done.err
    assert "cloud, 12x2" in done.out and "12 in a circle of 1.00" in done.out
    assert (lab.folder / "some.png").is_file()


def test_it_answers_about_a_file_and_refuses_options_that_it_does_not_have(tmp_path: Path, trained: Trained) -> None:
    path = tmp_path / "clouds.txt"
    path.write_text("".join(" ".join(["0.5"] * 24) + "\n" for _ in range(3)))
    with torch.inference_mode():
        pieces = list(labelled(trained, base.Request(path=path, reading={"scale": 2}, batch_size=2)))
    assert [row for piece in pieces for row in piece["row"]] == [1, 2, 3]
    assert {"row", "predicted"} <= pieces[0].keys()
    with pytest.raises(UserError, match=r"^data\.scal: this model's data has no such option \(did you mean scale\?\)$"):
        base.source_of(trained, base.Request(path=path, reading={"scal": 2}))


def test_rows_are_handed_over_by_a_program(trained: Trained) -> None:
    run = Run(None, trained.model)  # type: ignore[arg-type]
    answers = run.predict(np.zeros((4, 12, 2)))
    assert len(answers) == 4 and "predicted" in answers
    with pytest.raises(UserError, match="clouds of shape"):
        run.predict(np.zeros((4, 3, 2)))


def test_its_cells_are_attributed_to(trained: Trained) -> None:
    model, x = trained.model, torch.rand(3, 12, 2)
    assert isinstance(model, PointNet) and targets.incompatibility(model) is None
    ((method, values),) = attribution.attributions(model, x).items()
    assert method == "integrated gradients" and values.shape == (3, 12)
    assert attribution.deletion(model, x, values).ranked.shape == (13, 3)
    assert attribution.columns(model, x)["why"][0].startswith("(")


def test_a_spec_comes_back(trained: Trained) -> None:
    spec = trained.model.spec
    assert DataSpec.from_dict(spec.to_dict()) == spec and isinstance(spec.input, CloudSpec)
    assert isinstance(modality_of(spec), CloudModality)


def test_a_name_belongs_to_one_class_and_a_spec_inherits_its_modality() -> None:
    with pytest.raises(ValueError, match=r"^the modality image is src\.data\.images\.modality\.ImageModality: "):

        @register_modality("image")
        class Other(Modality):
            pass

    assert register_modality("cloud")(CloudModality) is CloudModality

    class Scan(ImageSpec):
        pass

    assert modality_class(Scan) is modality_class(ImageSpec) is not modality_class(AudioSpec)
    assert modality_class(InputSpec) is Modality


def test_every_modality_of_the_package_is_found_and_says_what_its_methods_are() -> None:
    known = {"table", "image", "audio", "text", "text_pairs", "series", "interactions", "environment"}
    assert built_in().keys() == known
    for name in known:
        cls = modality_class(InputSpec.named(name))
        assert f"{cls.__module__}.{cls.__qualname__}" == built_in()[name]
