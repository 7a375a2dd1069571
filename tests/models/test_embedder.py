"""Verification: figures by hand, losses by hand, classes held out, balanced batches, a run judged again, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from src.analysis.bootstrap import Rows, intervals
from src.config import compose
from src.data.core.module import DataModule
from src.data.core.samplers import ClassBalanced
from src.data.images.classic import Digits
from src.data.images.glyphs import Glyphs
from src.errors import UserError
from src.experiment.build import build_model
from src.inference.output import Output
from src.metrics import verification
from src.metrics.verification import Rates, VerificationMetrics, rates
from src.models.load import load_model
from src.tasks.losses import arcface, supcon
from src.tasks.verification.view import worst
from tests.commands.test_predict import answers, ask, checkpoint


def some(rows: int, classes: int, seed: int = 0, size: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings that are near those of their class, and the classes."""
    draw = torch.Generator().manual_seed(seed)
    target = torch.arange(rows) % classes
    centres = torch.randn(classes, size, generator=draw)
    return F.normalize(centres[target] + 0.8 * torch.randn(rows, size, generator=draw), dim=1), target


def listed(rows: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Similarity of each pair, and whether it is of one class, one by one."""
    places = [(i, j) for i in range(len(rows)) for j in range(i)]
    scores = np.array([float(1 - (rows[i] - rows[j]).square().sum() / 2) for i, j in places])
    return scores, np.array([bool(target[i] == target[j]) for i, j in places])


# figures -------------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_all_pairs_one_by_one() -> None:
    rows, target = some(40, 6)
    metric = VerificationMetrics(temperature=0.1)
    for piece in torch.arange(40).split(7):
        metric.update(rows[piece], target[piece])
    found = {name: float(value) for name, value in metric.compute().items()}
    scores, same = listed(rows, target)
    assert found["auroc"] == pytest.approx(roc_auc_score(same, scores), abs=1e-5)
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    assert found["tar_at_1_percent"] == pytest.approx(true[false <= 0.01].max())
    # where both errors meet, on the line between two thresholds
    grid = np.linspace(0, 1, 200_001)
    assert found["eer"] == pytest.approx(grid[np.argmin(abs(1 - np.interp(grid, false, true) - grid))], abs=0.01)
    right = (scores >= metric.threshold - 1e-6) == same
    assert 0.5 < right.mean() < 1
    nearest = (rows @ rows.T - 9 * torch.eye(40)).argmax(1)
    assert found["recall_at_1"] == pytest.approx(float((target[nearest] == target).double().mean()))
    assert found["loss"] == pytest.approx(float(supcon(rows, target, temperature=0.1)), rel=1e-5)


def test_scores_of_one_value_and_perfect_ones() -> None:
    tied = Rates.of(torch.tensor([0.5, 0.5, 0.5, 0.5]), torch.tensor([True, False, True, False]))
    assert tied.auroc() == 0.5 and tied.equal_error()[0] == 0.5 and tied.accepted_at() == 0
    perfect = Rates.of(torch.tensor([0.9, 0.8, 0.2, 0.1]), torch.tensor([True, True, False, False]))
    assert perfect.auroc() == 1 and perfect.equal_error() == (0, pytest.approx(0.8)) and perfect.accepted_at() == 1
    assert perfect.at(0.15) == (1, 0.5) and perfect.at(0.95) == (0, 0)
    hopeless = Rates.of(torch.tensor([0.9, 0.8, 0.2, 0.1]), torch.tensor([False, False, True, True]))
    assert hopeless.auroc() == 0 and hopeless.equal_error()[0] == 1
    one = VerificationMetrics(0.1)
    one.update(*some(4, 1))
    assert all(value.isnan() for name, value in one.compute().items() if name in ("eer", "auroc"))


def test_many_pairs_are_counted_in_pieces_and_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, target = some(60, 5)
    expected, curve = verification.contrast(rows, target, 0.1), rates(rows, target)
    nearest = verification.nearest_is_right(rows, target)
    monkeypatch.setattr(verification, "CHUNK", 420)
    assert verification.contrast(rows, target, 0.1) == pytest.approx(expected, rel=1e-6)
    assert verification.nearest_is_right(rows, target) == nearest
    assert rates(rows, target).equal_error() == pytest.approx(curve.equal_error(), abs=1e-6)
    assert worst(rows, target, same=False)[0][2] == pytest.approx(listed(rows, target)[0][
        ~listed(rows, target)[1]].max())  # fmt: skip
    monkeypatch.setattr(verification, "EXACT", 0)
    binned = rates(rows, target)
    for name in ("auroc", "accepted_at"):
        assert getattr(binned, name)() == pytest.approx(getattr(curve, name)(), abs=2e-3), name
    assert binned.equal_error() == pytest.approx(curve.equal_error(), abs=2e-3)
    assert len(binned.thinned().threshold) <= verification.POINTS


def test_classes_are_drawn_anew_with_all_their_rows_and_no_copy_is_compared() -> None:
    rows, target = some(30, 6)
    task = instantiate(compose(["model=embedder"]).task)(made("data=glyphs").spec, ("verification",))
    index = (target == 2).nonzero().squeeze(1).repeat(2)
    copies = torch.tensor([0] * 5 + [1] * 5)
    twice = task.as_clusters(target[index], copies)
    once = [one.first.sum() for one in verification.compared(rows[index], *twice.unbind(1))]
    assert int(sum(once)) == 2 * 10  # two times the pairs of five rows, and none across
    assert torch.equal(task.bootstrap_clusters(target), target)
    spread = intervals(task, Rows(rows, target, rows.flip(1)), resamples=60, level=0.9, seed=0)
    whole = VerificationMetrics(0.1)
    whole.update(rows, target)
    for name, value in whole.compute().items():
        assert spread[name].low <= float(value) + 0.05 and spread[name].high >= float(value) - 0.05, name
    assert spread["eer"].low < spread["eer"].high


# losses --------------------------------------------------------------------------------------------------------------


def test_arcface_is_the_cross_entropy_of_enlarged_angles() -> None:
    cosine = torch.linspace(-0.9, 0.99, 21).view(7, 3).double()
    target = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    plain = arcface(cosine, target, margin=0.0, scale=16.0)
    assert float(plain) == pytest.approx(float(F.cross_entropy(16 * cosine, target)))
    angle = cosine.acos()
    own = F.one_hot(target, 3).bool()
    wanted = torch.where(own, (angle + 0.3).cos(), angle.cos())
    assert float(arcface(cosine, target, margin=0.3, scale=8.0)) == pytest.approx(
        float(F.cross_entropy(8 * wanted, target))
    )
    # the right class's cosine never helps less the nearer it is, not even past half a turn or at its ends
    steps = torch.linspace(-1, 1, 201).double().requires_grad_()
    losses = torch.stack(
        [arcface(torch.stack([c, c.detach() * 0])[None], target[:1], margin=0.5, scale=16.0) for c in steps]
    )
    assert (losses.diff() < 1e-12).all()
    (gradient,) = torch.autograd.grad(losses.sum(), steps)
    assert gradient.isfinite().all()


def test_supcon_is_the_mean_over_rows_and_their_class() -> None:
    rows, target = some(9, 3)
    losses = []
    for i in range(9):
        others = [j for j in range(9) if j != i]
        logits = torch.stack([rows[i] @ rows[j] / 0.2 for j in others])
        share = logits.log_softmax(0)
        losses.append(-torch.stack([share[k] for k, j in enumerate(others) if target[j] == target[i]]).mean())
    assert float(supcon(rows, target, temperature=0.2)) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    alone = rows[:3].clone().requires_grad_()
    loss = supcon(alone, torch.arange(3), temperature=0.2)
    loss.backward()
    assert loss == 0 and (alone.grad == 0).all()


@pytest.mark.parametrize("loss", ["arcface", "supcon"])
def test_training_brings_classes_together(loss: str) -> None:
    data = made("data=glyphs")
    torch.manual_seed(0)
    model = build_model(compose(["model=embedder", f"task.loss={loss}"]), data.spec)
    assert (model.head is None) == (loss == "supcon")
    batch = data.head("train", 64)
    before = verification.contrast(model.eval().embed(batch["input"]).detach(), batch["target"], 0.1)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.003)
    for _ in range(20):
        loss = model.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    embedding = model.eval().embed(batch["input"]).detach()
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(64))
    assert verification.contrast(embedding, batch["target"], 0.1) < before - 0.3


# data ----------------------------------------------------------------------------------------------------------------


def made(*overrides: str) -> DataModule:
    data = instantiate(compose(list(overrides)).data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    return data


def test_each_part_has_its_own_classes_and_all_of_their_rows() -> None:
    data = made("data=digits", "data.held_out_classes=3")
    classes = {name: part["target"].unique().tolist() for name, part in data.splits.items()}
    assert classes == {"train": [0, 1, 2, 3, 4], "val": [5, 6], "test": [7, 8, 9]}
    assert sum(data.spec.splits.values()) == 1797
    assert data.spec.tasks[0] == "verification" and "classification" not in data.spec.tasks
    assert data.spec.target.held_out_test == ("7", "8", "9") and data.spec.target.held_out_val == ("5", "6")
    assert data.spec.class_counts[:5] == tuple(torch.bincount(data.splits["train"]["target"]).tolist())
    assert data.describe()["held_out_classes"] == ["7", "8", "9"]
    named = made("data=digits", "data.held_out_classes=[1,4]", "data.val_classes=[0,9,2]")
    assert {name: part["target"].unique().tolist() for name, part in named.splits.items()} == {
        "train": [3, 5, 6, 7, 8],
        "val": [0, 2, 9],
        "test": [1, 4],
    }


def test_letters_are_those_of_the_seed_and_an_unsteady_hand_changes_them() -> None:
    data, steady = made("data=glyphs"), made("data=glyphs", "data.unsteadiness=0", "data.held_out_classes=null")
    assert data.spec.splits == {"train": 1200, "val": 300, "test": 500} and data.spec.input_shape == (1, 20, 20)
    assert data.spec.sha256 == made("data=glyphs", "seed=7").spec.sha256
    assert data.spec.sha256 != made("data=glyphs", "data.split_seed=7").spec.sha256
    assert steady.spec.tasks[0] == "classification"
    part = steady.splits["train"]
    of_one = part["input"][part["target"] == 3]
    assert (of_one == of_one[0]).all() and of_one.amax() > 200  # no two drawings differ
    with pytest.raises(UserError, match="data.size=4 must be at least 8"):
        Glyphs(size=4)


def test_batches_have_so_many_rows_of_each_class() -> None:
    target = torch.tensor([0] * 7 + [1] * 12 + [2] * 4 + [3] * 9)
    sampler = ClassBalanced(target, 4, 8, seed=3, shuffle=True)
    batches = list(sampler.batches(epoch=2))
    assert len(batches) == len(sampler) == 5 and [len(batch) for batch in batches] == [8, 8, 8, 8, 4]
    for batch in batches:
        for group in target[batch].split(4):
            assert len(group.unique()) == 1
    assert target[torch.cat(batches[:2])].view(4, 4)[:, 0].sort().values.tolist() == [0, 1, 2, 3]  # in turn
    assert torch.cat(batches).unique().tolist() == list(range(32))
    assert all(map(torch.equal, batches, sampler.batches(epoch=2)))
    assert all(map(torch.equal, batches[2:], sampler.batches(epoch=2, first=2)))
    assert not torch.equal(torch.cat(batches), torch.cat(list(sampler.batches(epoch=3))))
    loader = made("data=glyphs", "data.per_class=8", "data.batch_size=32").train_dataloader()
    counts = torch.bincount(next(iter(loader))["target"])
    assert counts.sum() == 32 and (counts % 8 == 0).all()


# a run ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Ten classes of twelve small pictures, each a pattern of its own under noise."""
    folder = tmp_path_factory.mktemp("people")
    draw = np.random.default_rng(0)
    for name in "abcdefghij":
        (folder / name).mkdir()
        pattern = draw.integers(0, 200, (16, 14))
        for row in range(12):
            noisy = np.clip(np.roll(pattern, row % 3, 1) + draw.integers(0, 56, (16, 14)), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / name / f"{row:02d}.png")
    return folder


def test_a_run_is_judged_again_to_the_last_bit_and_compares_pictures(lab, people: Path, tmp_path: Path) -> None:
    """Its weights lie channels last, and so do those that a checkpoint gives back."""
    options = [f"data.path={people}", "data.held_out_classes=3", "model.channels=[8,16]", "trainer.max_epochs=4"]
    options += ["data.batch_size=16", "channels_last=true", "weight_averaging.kind=ema", "show_predictions=3"]
    result = lab.train("model=embedder", "data=image_folder", *options, "tracking.system_metrics=false")
    assert result.code == 0, result.err
    assert "how alike the rows are" in result.out
    folder = lab.artifacts(lab.runs()[0].info.run_id)
    for name in ("error_rates", "most_alike_of_two", "least_alike_of_one", "embeddings_map", "curve_eer"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    result = lab.run("evaluate", "run=last", "resamples=20")
    assert result.code == 0, result.err
    assert "these figures equal those that the run logged, to the last bit" in result.out
    assert "at the validation's threshold, a similarity of" in result.out

    listed = tmp_path / "pairs.csv"
    rows = [
        "first,second,same",
        "j/00.png,j/03.png,1",
        "h/00.png,i/00.png,no",
        "a/01.png,a/04.png,yes",
        "b/01.png,c/04.png,0",
    ]
    listed.write_text("\n".join(rows) + "\n")
    verification = ["data=pairs", f"data.path={listed}", f"data.root={people}"]
    result = lab.run("evaluate", "run=last", *verification, "resamples=20")
    assert result.code == 0, result.err
    assert "eer" in result.out and "recall" not in result.out
    best = folder / "checkpoints" / "best.ckpt"
    found = answers(best, *verification)
    assert [row["actual"] for row in found] == ["True", "False", "True", "False"]
    model = load_model(best)
    for row in found:
        x = [torch.tensor(np.array(Image.open(people / row[side])))[None, None] for side in ("first", "second")]
        with torch.inference_mode():
            score = float((model.embed(x[0]) * model.embed(x[1])).sum())
        assert float(row["similarity"]) == pytest.approx(score, abs=1e-5)
        assert row["same"] == str(float(row["similarity"]) >= model.task.threshold)
    ask(best, f"data.path={people / 'a'}", f"output={tmp_path / 'a.npz'}")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["file"].tolist() == [f"{row:02d}.png" for row in range(12)]
        np.testing.assert_allclose(np.linalg.norm(arrays["embedding"], axis=1), 1, rtol=1e-5)
        first = arrays["embedding"][0]
    rows = answers(best, f"data.path={people / 'a'}")
    assert [float(rows[0][f"embedding_{i}"]) for i in range(64)] == pytest.approx(first.tolist(), abs=1e-6)
    other = lab.run("evaluate", "run=last", f"data.path={people}", "resamples=0")  # classes of any name
    assert other.code == 0 and "recall_at_1" in other.out


# bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"held_out_classes": 11},
            "data.held_out_classes=11: data=digits has 10 classes; at most 6, to leave two to learn",
        ),
        ({"held_out_classes": 9}, "data.held_out_classes=9: data=digits has 10 classes; at most 6"),
        ({"held_out_classes": 1}, "data.held_out_classes=1: 2 or more"),
        ({"held_out_classes": [1]}, "data.held_out_classes=[1]: 2 or more"),
        ({"held_out_classes": list(range(9))}, "data.held_out_classes=9: data=digits has 10 classes; at most 6"),
        ({"held_out_classes": [1, 12]}, "data.held_out_classes: 12 is no class of data=digits"),
        ({"held_out_classes": [1, 1]}, "data.held_out_classes: 1 is named twice"),
        ({"held_out_classes": [1, 2], "val_classes": [2, 3]}, "data.val_classes: 2 is in data.held_out_classes too"),
        ({"held_out_classes": 3, "val_classes": 6}, "data.val_classes=6: data=digits has 10 classes, 7 without"),
        ({"val_classes": 3}, "data.val_classes goes with data.held_out_classes"),
        ({"held_out_classes": 3, "anomalies": [1]}, "data.held_out_classes does not go with data.anomalies"),
        ({"per_class": 5}, "data.per_class=5: 2 or more, of which data.batch_size=64 is a multiple"),
    ],
)
def test_classes_that_cannot_be_held_out(options: dict, message: str) -> None:
    with pytest.raises(UserError) as refused:
        Digits(**options).setup()
    assert message in str(refused.value)


def test_a_class_of_one_picture_makes_no_pair(people: Path, tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
        for row in range(1 if name == "h" else 3):
            (tmp_path / name / f"{row}.png").write_bytes((people / name / f"{row:02d}.png").read_bytes())
    with pytest.raises(UserError, match="class h has 1 row in test, at least 2 are needed for a pair"):
        made("data=image_folder", f"data.path={tmp_path}", "data.held_out_classes=2")


def test_a_model_that_does_not_fit_says_what_would() -> None:
    with pytest.raises(UserError, match="with data.held_out_classes=N it offers verification"):
        build_model(compose(["model=embedder", "data=digits"]), made("data=digits").spec)
    for option, message in (("margin=2", "task.margin=2"), ("scale=0", "task.scale=0"), ("temperature=0", "above 0")):
        with pytest.raises(UserError, match=message):
            build_model(compose(["model=embedder", f"task.{option}"]), made("data=glyphs").spec)
    with pytest.raises(UserError, match="data=pairs is nothing to train on"):
        made("data=pairs", "data.path=pairs.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("first,second\na/00.png,a/99.png", "line 2, column second: there is no picture .*a/99.png"),
        ("first,second\na/00.png,a/01.png\na/00.png,", "line 3: column second is empty"),
        ("one,two\na/00.png,a/01.png", "has no column first"),
        ("first,second,same\na/00.png,a/01.png,maybe", "line 2: column same is 'maybe', not 1 or 0"),
        ("first,second\n", "has a header and no rows"),
    ],
)
def test_a_list_that_cannot_be_compared(people: Path, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(content)
    model = checkpoint(
        tmp_path, "model=embedder", "data=image_folder", f"data.path={people}", "data.held_out_classes=3",
    )  # fmt: skip
    with pytest.raises(UserError, match=message):
        answers(model, "data=pairs", f"data.path={path}", f"data.root={people}")
    assert not (tmp_path / "answers.csv").exists()


def test_a_model_of_classes_compares_nothing(tmp_path: Path, people: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("first,second,same\na/00.png,a/01.png,1\n")
    data = instantiate(compose(["data=pairs", f"data.path={path}", f"data.root={people}"]).data)
    with pytest.raises(UserError, match="is for a run of the task verification"):
        data.reuse(made("data=digits").spec)
    with pytest.raises(UserError, match="all pairs of .* are the same"):
        data.reuse(made("data=glyphs").spec)


def test_predictions_are_written_as_arrays_of_numbers_and_texts(tmp_path: Path) -> None:
    with Output(tmp_path / "a.npz") as output:
        output.write({"name": ["x", None], "value": [1.5, 2.0]})
        output.write({"name": ["y"], "value": [3.0]})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["name"].tolist() == ["x", "None", "y"] and arrays["value"].tolist() == [1.5, 2.0, 3.0]
