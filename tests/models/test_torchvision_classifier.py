"""torchvision's nets: their heads, stems, sizes, pretrained weights, what is frozen, and learning rates by depth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torchvision import models

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import assemble
from src.experiment.build import build_model
from src.models.load import load_model
from src.models.torchvision_classifier import STEMS, TorchvisionClassifier
from src.runtime.signals import Signals
from src.spec import Classes, DataSpec, ImageSpec
from src.tasks.registry import make_task
from src.training.callbacks.checkpoint import save_atomically

SPEC = DataSpec(
    "toy",
    ("classification",),
    {"train": 9},
    ImageSpec((3, 32, 32), (120.0,) * 3, (60.0,) * 3),
    Classes(("a", "b", "c"), (3, 3, 3)),
)
LIGHT = "shufflenet_v2_x0_5"
# the smallest net of each family
FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
    "resnext50_32x4d", LIGHT, "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vit_b_32",
)  # fmt: skip


def build(side: int = 32, channels: int = 3, task: str = "auto", **options) -> TorchvisionClassifier:
    spec = SPEC.with_input(shape=(channels, side, side), mean=(120.0,) * channels, std=(60.0,) * channels)
    spec = replace(spec, tasks=TorchvisionClassifier.tasks if task != "auto" else SPEC.tasks)
    torch.manual_seed(0)
    return TorchvisionClassifier(
        spec, make_task(spec, TorchvisionClassifier.tasks, name=task), **({"name": LIGHT} | options)
    )


def images(side: int = 32, channels: int = 3, rows: int = 4) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rows, channels, side, side), dtype=torch.uint8, generator=draw)


def batch(model: TorchvisionClassifier) -> dict[str, torch.Tensor]:
    return {"input": images(), "target": torch.tensor([0, 1, 2, 0])}


def refusal(**options) -> str:
    with pytest.raises(UserError) as caught:
        build(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# nets ----------------------------------------------------------------------------------------------------------------


def test_the_families_are_all_there_are() -> None:
    """A family that torchvision adds is to be met here too."""
    known = {models.get_model_builder(name).__module__ for name in models.list_models(module=models)}
    assert {models.get_model_builder(name).__module__ for name in FAMILIES} == known


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_on_grey_images_of_its_usual_size(name: str) -> None:
    model = build(channels=1, name=name, resize=models.get_model_weights(name)["DEFAULT"].transforms().crop_size[0])
    loss = model.training_step({"input": images(channels=1, rows=2), "target": torch.tensor([0, 1])}, 0)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert {name for name, _ in model.named_parameters() if name.startswith("head.")} == {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_the_head_alone_differs_from_torchvision_s_net(name: str) -> None:
    """With its last layer for a head the outputs are torchvision's, but that SqueezeNet's are not cut off at 0."""
    model = build(side=64, name=name).eval()
    theirs = models.get_model(name, weights=None).eval()
    theirs.load_state_dict(model.body.state_dict(), strict=False)
    last = [layer for layer in theirs.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)][-1]
    model.head = torch.nn.Linear(last.weight.shape[1], 1000)
    model.head.load_state_dict({"weight": last.weight.flatten(1), "bias": last.bias})
    if name == "squeezenet1_1":
        theirs.classifier[2] = torch.nn.Identity()
    with torch.no_grad():
        expected = theirs((images(64) - 120.0) / 60.0)
        torch.testing.assert_close(model(images(64)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("task", "outputs"), [("classification", 3), ("regression", 1)])
def test_grey_images_are_seen_as_colour_ones_of_the_same_grey(task: str, outputs: int) -> None:
    grey, colour = build(channels=1, task=task).eval(), build(task=task).eval()
    x = images(channels=1)
    with torch.no_grad():
        assert torch.equal(grey(x), colour(x.expand(-1, 3, -1, -1)))
        assert grey(x).shape == (4, outputs)


def test_images_are_scaled_where_it_is_asked_for() -> None:
    model = build(resize=64, stem="standard").eval()
    flat = torch.full((2, 3, 32, 32), 70, dtype=torch.uint8)
    with torch.no_grad():
        large = flat[..., :1, :1].expand(-1, -1, 64, 64)
        torch.testing.assert_close(model(flat), model(large))


@pytest.mark.parametrize(
    "name", ["resnet18", LIGHT, "regnet_x_400mf", pytest.param("densenet121", marks=pytest.mark.slow)]
)
def test_small_images_keep_their_resolution_to_the_first_block(name: str) -> None:
    convolution, pooling = STEMS[type(models.get_model(name, weights=None)).__name__]
    for side, stem, small in ((32, "auto", True), (64, "auto", False), (64, "small", True), (32, "standard", False)):
        body = build(side=side, name=name, stem=stem).body
        layer = body.get_submodule(convolution)
        assert (layer.kernel_size == (3, 3) and layer.stride == (1, 1)) is small
        assert pooling is None or isinstance(body.get_submodule(pooling), torch.nn.Identity) is small


def test_what_cannot_be_built_is_refused_in_one_line() -> None:
    assert refusal(name="resnet19").endswith("no classification net of torchvision (did you mean resnet18?)")
    assert refusal(weights="V9") == f"model.weights=V9: {LIGHT} has DEFAULT, IMAGENET1K_V1, or null"
    assert "model.resize=0 must be at least 1" in refusal(resize=0)
    assert "VGG has no such stem" in refusal(name="vgg11", stem="small", side=64)
    assert "model.backbone_lr_factor=0: above 0; to keep the backbone: model.freeze=head_only" in refusal(
        backbone_lr_factor=0
    )
    for options, usual in (
        ({"name": "squeezenet1_1", "side": 8}, 224),  # in its layers
        ({"name": "vit_b_32", "side": 40}, 224),  # as it is made
    ):
        message = refusal(**options)
        assert f"model.name={options['name']} cannot take images of" in message
        assert message.endswith(f"its usual size: model.resize={usual}")
    assert TorchvisionClassifier.incompatibility(SPEC.with_input(shape=(4, 32, 32))) == (
        "takes images of 1 or 3 channels, data=toy has 4"
    )


# pretrained weights --------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch: pytest.MonkeyPatch, no_network) -> Path:
    """An empty cache of torch's, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def stored(name: str, cache: Path, **options) -> torch.nn.Module:
    """A net whose weights lie in the cache as torchvision's own would."""
    torch.manual_seed(5)
    net = models.get_model(name, weights=None, **options)
    url = models.get_model_weights(name)["DEFAULT"].url
    torch.save(net.state_dict(), cache / url.rpartition("/")[2])
    return net


@pytest.fixture
def pretrained(cache: Path) -> torch.nn.Module:
    return stored(LIGHT, cache)


def test_weights_come_with_their_normalisation(pretrained: torch.nn.Module) -> None:
    model = build(channels=1, weights="DEFAULT").load_pretrained().eval()
    x = images(channels=1)
    net = pretrained.eval()
    net.fc = torch.nn.Identity()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = model.head(net((x / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)))
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_a_small_stem_takes_the_other_weights(pretrained: torch.nn.Module) -> None:
    model = build(weights="IMAGENET1K_V1", stem="small").load_pretrained()
    own, theirs = model.body.state_dict(), pretrained.state_dict()
    assert torch.equal(own["stage2.0.branch1.0.weight"], theirs["stage2.0.branch1.0.weight"])
    assert own["conv1.0.weight"].shape == theirs["conv1.0.weight"].shape  # this net's is 3x3 anyway


def test_a_second_classifier_of_the_weights_is_left_alone(cache: Path) -> None:
    net = stored("googlenet", cache, init_weights=False)
    body = build(name="googlenet", weights="DEFAULT").load_pretrained().body
    assert torch.equal(body.inception5b.branch1.conv.weight, net.inception5b.branch1.conv.weight)
    assert body.aux1 is None and body.transform_input


def test_weights_that_are_missing_stay_random(cache: Path) -> None:
    net = stored(LIGHT, cache)
    net.conv5[0].weight.data.fill_(float("nan"))
    torch.save(net.state_dict(), next(cache.iterdir()))
    model = build(weights="DEFAULT").load_pretrained().eval()
    assert torch.equal(model.body.stage4[0].branch1[0].weight, net.stage4[0].branch1[0].weight)
    assert model(images()).isfinite().all()


@pytest.mark.slow
def test_a_vit_s_weights_know_their_image_size(cache: Path) -> None:
    stored("vit_b_32", cache)
    with pytest.raises(UserError, match="model.weights=DEFAULT are for images of 224x224: model.resize=224"):
        build(name="vit_b_32", weights="DEFAULT", side=64).load_pretrained()
    build(name="vit_b_32", weights="DEFAULT", resize=224).load_pretrained()


def test_a_checkpoint_is_read_without_the_file_of_weights(pretrained: torch.nn.Module, cache: Path, tmp_path) -> None:
    config = compose(["model=torchvision", f"model.name={LIGHT}", "model.weights=DEFAULT"])
    model = build_model(config, SPEC).eval()
    model.config = OmegaConf.to_container(config, resolve=True)
    path = tmp_path / "model.ckpt"
    save_atomically({"state_dict": model.state_dict(), "labbook": model.description()}, path)
    (file,) = cache.iterdir()
    file.unlink()
    again = load_model(path)
    with torch.no_grad():
        assert torch.equal(again(images()), model(images()))


def test_missing_and_damaged_weights_are_named_with_their_place(cache: Path) -> None:
    config = compose(["model=torchvision", f"model.name={LIGHT}", "model.weights=DEFAULT"])
    url = models.get_model_weights(LIGHT)["DEFAULT"].url
    name = url.rpartition("/")[2]
    for content in (None, b"", b"no weights"):
        if content is not None:
            (cache / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            build_model(config, SPEC)
        message = str(caught.value)
        assert message.startswith("model.weights=DEFAULT cannot be had (") and "\n" not in message
        assert f"put {url} at {cache / name}" in message


# training ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freeze", "weights_stay", "statistics_stay"),
    [("none", False, False), ("all", True, False), ("head_only", True, True)],
)
def test_what_is_frozen_stays(freeze: str, weights_stay: bool, statistics_stay: bool) -> None:
    model = build(freeze=freeze)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=0.01)
    model.eval().train()
    for _ in range(2):
        optimizer.zero_grad()
        model.training_step(batch(model), 0).backward()
        optimizer.step()
    after, learned = model.state_dict(), dict(model.named_parameters())
    for name, tensor in after.items():
        stays = torch.equal(tensor, before[name])
        if name.startswith("head."):
            assert not stays
        elif name in learned:
            assert stays is weights_stay, name
        else:
            assert stays is statistics_stay, name


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_the_backbone_learns_more_slowly(optimizer: str, tmp_path) -> None:
    parts = assembled(tmp_path, "model.backbone_lr_factor=0.1", f"optimizer={optimizer}", "trainer.max_epochs=1")
    seen = []
    step = parts.model.training_step

    def watched(*given):
        seen.append([group["lr"] for group in parts.trainer.optimizers[0].param_groups])
        return step(*given)

    parts.model.training_step = watched
    parts.trainer.fit(parts.model, datamodule=parts.data)
    head = {id(p) for p in parts.model.head.parameters()}
    groups = parts.trainer.optimizers[0].param_groups
    factors = [1.0 if {id(p) for p in group["params"]} <= head else 0.1 for group in groups]
    assert factors[0] == 1.0 and 0.1 in factors  # the first one is what is recorded as lr
    rates = torch.tensor(seen, dtype=torch.float64)
    torch.testing.assert_close(rates, rates[:, :1] * torch.tensor(factors, dtype=torch.float64))
    assert rates[:, 0].unique().numel() > 3  # the schedule moves both


def test_a_changed_learning_rate_keeps_the_backbone_s_share(tmp_path) -> None:
    options = ["model.backbone_lr_factor=0.1", "scheduler=none", "optimizer.lr=0.001"]
    first = assembled(tmp_path, *options, "trainer.max_epochs=1")
    first.trainer.fit(first.model, datamodule=first.data)
    again = assembled(tmp_path, *options[:2], "optimizer.lr=0.002", "trainer.max_epochs=2")
    again.trainer.fit(again.model, datamodule=again.data, ckpt_path=str(first.checkpoint.last_path), weights_only=True)
    rates = {group["lr"] for group in again.trainer.optimizers[0].param_groups}
    assert sorted(rates) == pytest.approx([0.0002, 0.002])


def assembled(folder: Path, *overrides: str):
    given = ["model=torchvision", f"model.name={LIGHT}", "data.batch_size=16", "trainer=cpu"]
    given += ["+trainer.limit_train_batches=6", "+trainer.limit_val_batches=1"]
    parts = assemble(compose([*given, *overrides]), Signals())
    parts.checkpoint.directory = folder
    return parts
