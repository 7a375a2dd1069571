"""Boxes and lists of items are explained as classes are: what is attributed to is what the prediction rests on."""

from __future__ import annotations

import pytest
import torch

from src.analysis.explain import attribution, targets
from src.analysis.explain import figures as attribution_figures
from src.config import compose
from src.experiment.build import build_model
from src.models.base import Model
from tests.conftest import Lab
from tests.tiny import choice, dataset, options

LISTS = ("recommender", "low_rank_ratings", "task=ranking")


def built(model: str, data: str, *further: str) -> Model:
    torch.manual_seed(0)
    return build_model(compose([*choice(model), *options(data), *further]), dataset(data).spec).eval()


def test_an_item_of_the_history_counts_as_much_as_the_score_falls_without_it() -> None:
    model = built(*LISTS, "model.user=history")
    x = dataset("low_rank_ratings").head("test", 4)["input"]
    chosen = targets.predicted(model, x)
    assert not model.task.left_out(x).gather(1, chosen.unsqueeze(1)).any()  # what the user has is not recommended
    ((method, values),) = attribution.attributions(model, x).items()
    length = (x.shape[1] - 2) // 2
    assert method == "ablation" and values.shape == (4, length)
    for place in (0, 1, length - 1):
        without = x.clone()
        without[:, [2 + place, 2 + length + place]] = 0
        fall = targets.score(model, x, chosen) - targets.score(model, without, chosen)
        torch.testing.assert_close(values[:, place], fall.detach(), rtol=1e-4, atol=1e-5)
    assert (values[x[:, 2 : 2 + length] == 0] == 0).all()
    test = attribution.deletion(model, x, values)
    assert test.what == "probability" and test.ranked.shape == (len(test.shares), 4)


def test_the_surest_box_is_explained_by_the_pixels_that_it_looks_at() -> None:
    model = built("detector", "scenes")
    x = dataset("scenes").head("test", 3)["input"]
    chosen = targets.predicted(model, x)
    outputs = model(x)
    best = outputs[..., 7:].flatten(1).max(1).values
    torch.testing.assert_close(targets.score(model, x, chosen), best)
    torch.testing.assert_close(targets.confidence(model, x, chosen), best.sigmoid())
    found = attribution.attributions(model, x)
    assert {"integrated gradients", "Grad-CAM", "occlusion"} == set(found)
    assert all(values.shape == (3, *x.shape[2:]) and values.isfinite().all() for values in found.values())
    titles = attribution_figures._titles(model, x, None)
    assert all(title.startswith("surest box: ") for title in titles)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("recommender", "low_rank_ratings", "task=rating"), "not of rating on interactions data"),
        ((*LISTS, "model.user=vector"), "model.user=history"),
        (("torchvision_detector", "scenes"), "model=detector has a score at each place"),
        (("policy", "environment"), "not of control on environment data"),
    ],
)
def test_what_cannot_be_explained_is_said(pair: tuple[str, ...], words: str) -> None:
    problem = targets.incompatibility(built(*pair))
    assert problem is not None and problem.startswith("explain=true: ") and words in problem


@pytest.mark.parametrize(
    "command",
    [("model=recommender", "task=ranking", "data.split=leave_last_out"), ("model=detector", "data.scenes=60")],
)
def test_a_run_draws_them_and_tests_whether_they_mean_anything(lab: Lab, command: tuple[str, ...]) -> None:
    options = ["explain=true", "trainer.max_epochs=2", "log_images=0", "tracking.system_metrics=false"]
    result = lab.train(*command, *options)
    assert result.code == 0, result.err
    assert "removing by " in result.out and ": none, " not in result.out, result.out
    (run,) = lab.runs()
    figures = {path.name for path in (lab.artifacts(run.info.run_id) / "figures").glob("explained_*")}
    assert figures == {"explained_rows.png", "explained_deletion.png"}
    if "model=recommender" in command:  # whose worst rows are a user and the item taken, beside what was recommended
        header, *rows = (lab.artifacts(run.info.run_id) / "worst_examples.csv").read_text().splitlines()
        assert header == "row,loss,true,predicted,user,item" and rows
