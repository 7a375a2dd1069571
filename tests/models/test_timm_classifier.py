"""timm's nets: as timm makes them, sizes from the data, pretrained weights, what is frozen, one line for the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from src.analysis.explain.attribution import attributions
from src.config import compose
from src.errors import UserError
from src.experiment.build import build_model
from src.models.load import load_model
from src.models.timm_classifier import TimmClassifier
from src.spec import Classes, DataSpec, ImageSpec
from src.tasks.registry import make_task
from src.training.callbacks.checkpoint import save_atomically
from src.training.init_from import InitFrom
from tests.conftest import Lab

SPEC = DataSpec(
    "toy",
    ("classification",),
    {"train": 9},
    ImageSpec((3, 32, 32), (120.0,) * 3, (60.0,) * 3),
    Classes(("a", "b", "c"), (3, 3, 3)),
)


def spec(side: int = 32, channels: int = 3) -> DataSpec:
    return SPEC.with_input(shape=(channels, side, side), mean=(120.0,) * channels, std=(60.0,) * channels)


def build(side: int = 32, channels: int = 3, task: str = "auto", **options) -> TimmClassifier:
    given = replace(spec(side, channels), tasks=TimmClassifier.tasks if task != "auto" else SPEC.tasks)
    torch.manual_seed(0)
    return TimmClassifier(
        given, make_task(given, TimmClassifier.tasks, name=task), **({"name": "test_resnet"} | options)
    )


def images(side: int = 32, channels: int = 3, rows: int = 4) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rows, channels, side, side), dtype=torch.uint8, generator=draw)


def refusal(**options) -> str:
    with pytest.raises(UserError) as caught:
        build(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# nets ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "side"), [("test_resnet", 3, 32), ("test_vit", 1, 64), ("test_efficientnet", 4, 40)]
)
def test_the_net_is_timm_s_to_the_last_bit(name: str, channels: int, side: int) -> None:
    """Weights at the start, and outputs of any number of channels and size."""
    model = build(side, channels, name=name).eval()
    torch.manual_seed(0)
    fixed = {"img_size": side} if "vit" in name else {}
    theirs = timm.create_model(name, num_classes=3, in_chans=channels, **fixed).eval()
    x = images(side, channels)
    assert theirs.state_dict().keys() == model.net.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs((x - 120.0) / 60.0))


def test_options_reach_timm() -> None:
    model = build(drop_rate=0.3, drop_path_rate=0.2, options={"global_pool": "max"}, name="resnet18", side=64)
    assert model.net.drop_rate == 0.3
    assert model.net.global_pool.pool_type == "max"
    assert model.net.layer4[-1].drop_path.drop_prob == pytest.approx(0.2)
    assert build(task="regression")(images()).shape == (4, 1)


def test_images_are_scaled_where_it_is_asked_for() -> None:
    model = build(resize=64, name="test_vit").eval()
    assert model.net.patch_embed.img_size == (64, 64)
    flat = torch.full((2, 3, 32, 32), 70, dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(model(flat), model(flat[..., :1, :1].expand(-1, -1, 64, 64)))


def test_one_row_trains_norms_that_see_one_value_a_channel() -> None:
    model = build(name="test_byobnet").train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    plain = timm.create_model("test_byobnet", num_classes=3).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        plain(torch.zeros(1, 3, 32, 32))
    model.training_step({"input": images(rows=1), "target": torch.tensor([1])}, 0).backward()
    assert all(norm.training for norm in norms)


def test_what_cannot_be_built_is_refused_in_one_line() -> None:
    assert refusal(name="resnet19").startswith("model.name=resnet19 is no net of timm (did you mean resnet1")
    assert refusal(name="resnet18.no_such_tag").startswith("model.name=resnet18.no_such_tag: resnet18 has the weights ")
    assert refusal(options={"colour": 3}).startswith("model.options: timm's test_resnet refuses them (")
    assert refusal(options={"num_classes": 3}) == "model.options.num_classes: the task gives it"
    assert refusal(name="test_vit", side=40).endswith("; its usual size: model.resize=160")
    assert refusal(name="test_convnext", side=8).endswith("; its usual size: model.resize=160")  # in its layers
    assert "model.drop_rate=1.5 must be" in refusal(drop_rate=1.5)
    assert "model.freeze=some: none, head_only or all" in refusal(freeze="some")
    assert refusal(pretrained=True, name="vit_tiny_patch16_384.no") and refusal(resize=0)


# pretrained weights --------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, object]:
    """Options by which timm reads weights for 1,000 classes from a file, and not from the network."""
    torch.manual_seed(5)
    net = timm.create_model("test_resnet")
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    return {"pretrained": True, "options": {"pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")}}}


def test_pretrained_weights_come_with_their_normalisation_and_new_classes(weights: dict[str, object]) -> None:
    model = build(**weights).load_pretrained().eval()
    torch.manual_seed(5)
    net = timm.create_model("test_resnet").eval()
    known = net.pretrained_cfg
    mean, std = (torch.tensor(known[key]).view(3, 1, 1) for key in ("mean", "std"))
    x = images()
    with torch.no_grad():
        features = net.forward_head(net.forward_features((x / 255 - mean) / std), pre_logits=True)
        torch.testing.assert_close(model(x), model.net.fc(features), rtol=1e-4, atol=1e-4)
    assert model.net.fc.out_features == 3
    grey = build(channels=1, **weights).load_pretrained()
    torch.testing.assert_close(grey.net.conv1[0].weight.sum(1), net.conv1[0].weight.sum(1))  # as timm adapts them


def test_a_checkpoint_is_read_without_the_file_of_weights(weights: dict[str, object], tmp_path: Path) -> None:
    overlay = f"model.options.pretrained_cfg_overlay.file={tmp_path / 'weights.pth'}"
    config = compose(["model=timm", "model.name=test_resnet", "model.pretrained=true", f"+{overlay}"])
    model = build_model(config, SPEC).eval()
    model.attach(config={**_plain(config)})
    save_atomically({"state_dict": model.state_dict(), "labbook": model.description()}, tmp_path / "model.ckpt")
    (tmp_path / "weights.pth").unlink()
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "model.ckpt")(images()), model(images()))


def _plain(config) -> dict:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True)


def test_weights_that_cannot_be_had_are_one_line(no_network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        build(pretrained=True).load_pretrained()
    message = str(caught.value)
    assert message.startswith("model.pretrained=true: the weights of test_resnet cannot be had (")
    assert "HF_HOME" in message and "\n" not in message


def test_weights_as_timm_saves_them_start_a_net_of_other_classes(tmp_path: Path) -> None:
    net = timm.create_model("test_resnet", num_classes=7)
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    model = build()
    fresh = model.net.fc.weight.clone()
    said = InitFrom.read(tmp_path / "weights.pth", "weights.pth").hand_over(model)
    assert torch.equal(model.net.layer1[0].conv1.weight, net.layer1[0].conv1.weight)
    assert torch.equal(model.net.fc.weight, fresh) and "fresh: net.fc.weight, net.fc.bias" in said


# training ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freeze", "weights_stay", "statistics_stay"),
    [("none", False, False), ("all", True, False), ("head_only", True, True)],
)
def test_what_is_frozen_stays(freeze: str, weights_stay: bool, statistics_stay: bool) -> None:
    model = build(freeze=freeze, side=64, options={"zero_init_last": False})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=0.01)
    model.eval().train()
    for _ in range(2):
        optimizer.zero_grad()
        model.training_step({"input": images(64), "target": torch.tensor([0, 1, 2, 0])}, 0).backward()
        optimizer.step()
    learned = dict(model.named_parameters())
    for name, tensor in model.state_dict().items():
        stays = torch.equal(tensor, before[name])
        if name.startswith("net.fc."):
            assert not stays
        elif name in learned:
            assert stays is weights_stay, name
        else:
            assert stays is statistics_stay, name


def test_the_body_learns_more_slowly() -> None:
    groups = build(backbone_lr_factor=0.1).parameter_groups()
    slow = [group for group in groups if group["lr_factor"] == 0.1]
    fast = {id(p) for group in groups if group["lr_factor"] == 1.0 for p in group["params"]}
    assert slow and len(fast) == 2


def test_predictions_are_explained_by_grad_cam_too() -> None:
    model = build(side=64).eval()
    found = attributions(model, images(64, rows=1))
    assert found.keys() == {"integrated gradients", "occlusion", "Grad-CAM"}
    assert all(values.shape == (1, 64, 64) and values.isfinite().all() for values in found.values())


def test_everything_afterwards_by_the_run_s_id(lab: Lab) -> None:
    given = ["model=timm", "model.name=test_resnet", "model.resize=64", "data=digits", "train_fraction=0.1"]
    given += ["trainer=cpu", "trainer.max_epochs=2", "tracking.system_metrics=false", "threads=1"]
    done = lab.train(*given)
    assert done.code == 0, done.err
    evaluated = lab.run("evaluate", "run=last", "resamples=0")
    assert evaluated.code == 0 and "to the last bit" in evaluated.out, evaluated.err
    for form, name in (("onnx", "net.onnx"), ("pt2", "net.pt2")):
        assert lab.run("export", "run=last", f"format={form}", f"output={name}").code == 0
    verified = lab.run("rerun", "run=last", "verify=true")
    assert verified.code == 0 and "identical" in verified.out, verified.err
