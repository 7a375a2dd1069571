"""torchvision's classification nets (https://pytorch.org/vision/stable/models.html) under a head that fits the data."""

from __future__ import annotations

import warnings
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from src.errors import UserError, suggest
from src.models.base import Model
from src.models.components import finetuning
from src.models.components.finetuning import Freeze
from src.models.components.layers import BatchNorm2d
from src.runtime.ranges import PositiveInt
from src.spec import DataSpec, ImageSpec
from src.tasks import Task

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

# the first convolution, and the pooling after it where there is one, of nets whose first convolution is strided
STEMS: dict[str, tuple[str, str | None]] = {
    "ResNet": ("conv1", "maxpool"),
    "DenseNet": ("features.conv0", "features.pool0"),
    "RegNet": ("stem.0", None),
    "ShuffleNetV2": ("conv1.0", "maxpool"),
}
_SMALL = 64  # pixels: what is smaller would leave such a stem with a quarter of its sides


class TorchvisionClassifier(Model):
    """A net of torchvision without its last layer, and a linear head of the task's size.

    Grey images are repeated for red, green and blue, which equals first filters summed over the colours. With `weights`
    images are normalised as those weights were trained, not by the training split; pixels count from 0 to the data's
    `levels`. Batch normalisation takes a batch of one value a channel as src/models/components/layers.py says. A
    checkpoint brings its own weights: it is read without the file that `weights` names.

    Args:
        spec: what the data is; input (C, H, W) with 1 or 3 channels.
        task: gives the number of outputs.
        name: of torchvision.models.list_models(module=torchvision.models).
        weights: pretrained weights of that net that training starts from, such as DEFAULT or IMAGENET1K_V1, fetched
            once into torch's own cache; null: random ones.
        resize: images are scaled to this height and width first; null: they are taken as they are.
        stem: `small` makes the first convolution 3x3 with stride 1 and leaves out any pooling after it, as usual for
            images of 32 pixels (He et al. 2015, arXiv:1512.03385, section 4.2); a convolution of another size than in
            `weights` starts at random. `auto` does so below 64 pixels where the net has such a stem and no `weights`.
        freeze: `none`: everything trains. `head_only`: only the head does, the net before it stays as in evaluation.
            `all`: no weight before the head trains, but batch norms go on measuring what they see (Li et al. 2016,
            arXiv:1603.04779) and dropout stays on.
        backbone_lr_factor: learning rate before the head, as a share of the optimizer's (discriminative fine-tuning,
            Howard and Ruder 2018, arXiv:1801.06146).

    Raises:
        UserError: an unknown name, weights or stem, images of a size that the net cannot take.
    """

    inputs = (ImageSpec,)
    channels = (1, 3)
    tasks = ("classification", "binary", "regression")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        name: str = "resnet18",
        weights: str | None = None,
        resize: PositiveInt | None = None,
        stem: Literal["auto", "standard", "small"] = "auto",
        freeze: Freeze = "none",
        backbone_lr_factor: float = 1.0,
    ) -> None:
        _check(name, weights, stem, freeze, backbone_lr_factor)
        levels = spec.input_as(ImageSpec).levels
        if weights is not None and levels:  # numbers of another scale stay in their own standard units
            transforms = _weights(name, weights).transforms()
            values = transforms.mean, transforms.std
            mean, std = (tuple(share * levels for share in shares) for shares in values)
            spec = spec.with_input(mean=mean, std=std)
        super().__init__(spec, task)
        self.name, self.weights = name, weights
        self.freeze = freeze  # type: ignore[assignment]  # in the place of a method that no one calls
        self.body_lr_factor = backbone_lr_factor
        self.sides = (resize, resize) if resize else spec.input_shape[1:]
        self.body, features = _without_last(_build(name, self.sides, pretrained=weights is not None))
        if stem == "small" or (stem == "auto" and weights is None and max(self.sides) < _SMALL):
            _shrink_stem(self.body, required=stem == "small")
        for norm in self.body.modules():
            if type(norm) is nn.BatchNorm2d:
                norm.__class__ = BatchNorm2d  # the same layer, but for batches of one value a channel
        self.head = nn.Linear(features, task.num_outputs)
        self._try_size()
        self.body.requires_grad_(freeze == "none")
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """Raw images (B, C, H, W) to outputs (B, num_outputs)."""
        x = self.normalize(x)
        if x.shape[-2:] != self.sides:
            x = F.interpolate(x, self.sides, mode="bilinear", antialias=True)
        return self.head(self.body(x.expand(-1, 3, -1, -1)))

    @override
    def train(self, mode: bool = True) -> TorchvisionClassifier:
        super().train(mode)
        if self.freeze == "head_only":
            self.body.eval()
        return self

    def load_pretrained(self) -> TorchvisionClassifier:
        """Load `weights` before the head, and return itself; without `weights` nothing changes."""
        from torchvision import models

        if self.weights is None:
            return self
        chosen = _weights(self.name, self.weights)
        try:
            net = models.get_model(self.name, weights=chosen)
        except (RuntimeError, ValueError, OSError, EOFError, UnpicklingError) as error:
            raise _unfetched(self.weights, chosen.url, error) from None
        own = self.body.state_dict()
        # what is not finite is missing: VGG's IMAGENET1K_FEATURES have no classifier
        found = {key: value for key, value in net.state_dict().items() if key in own and value.isfinite().all()}
        place = "encoder.pos_embedding"
        if place in own and own[place].shape != found[place].shape:
            side = chosen.meta["min_size"][0]
            raise UserError(f"model.weights={self.weights} are for images of {side}x{side}: model.resize={side}")
        # a small stem has a first convolution of another shape
        fitting = {key: value for key, value in found.items() if value.shape == own[key].shape}
        self.body.load_state_dict(fitting, strict=False)
        return self

    def _try_size(self) -> None:
        """Run one black image through the net in evaluation, to see that it takes this size.

        Raises:
            UserError: the net cannot take images of this size.
        """
        self.body.eval()
        try:
            with torch.no_grad():
                self.body(torch.zeros(1, 3, *self.sides))
        except finetuning.REFUSALS as error:
            raise _wrong_size(self.name, self.sides, error) from None


def _check(name: str, weights: str | None, stem: str, freeze: str, lr_factor: float) -> None:
    """Check the options that do not depend on the data."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"model.name={name} is no classification net of torchvision{suggest(name, known)}")
    choices = ["DEFAULT", *models.get_model_weights(name).__members__]
    if weights is not None and weights not in choices:
        raise UserError(f"model.weights={weights}: {name} has {', '.join(dict.fromkeys(choices))}, or null")
    if stem not in ("auto", "standard", "small"):
        raise UserError(f"model.stem={stem}: auto, standard or small")
    finetuning.check(freeze, lr_factor)


def _weights(name: str, weights: str) -> WeightsEnum:
    """The pretrained weights of this name, with their file, their transforms and what is known of them."""
    from torchvision import models

    return models.get_model_weights(name)[weights]


def _build(name: str, sides: tuple[int, ...], *, pretrained: bool) -> nn.Module:
    """Build the net as torchvision makes it, for images of these sides, with random weights.

    Raises:
        UserError: of this size it cannot be made.
    """
    from torchvision import models

    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options = {"image_size": sides[0]}
    elif name.startswith("maxvit_"):
        options = {"input_size": sides}
    elif name in ("googlenet", "inception_v3"):
        # their second classifiers would need losses of their own
        options = {"aux_logits": False, "init_weights": not pretrained, "transform_input": pretrained}
    try:
        with warnings.catch_warnings(action="ignore"):
            return models.get_model(name, weights=None, **options)
    except finetuning.REFUSALS as error:
        raise _wrong_size(name, sides, error) from None


def _without_last(net: nn.Module) -> tuple[nn.Module, int]:
    """The net with its output layer left out, and the number of its features.

    In all of torchvision's nets the last linear layer or convolution is the output. SqueezeNet averages what its last
    1x1 convolution gives: a linear layer on the averaged features is the same.
    """
    name, last = [(key, m) for key, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    net.set_submodule(name, nn.Identity())
    return net, last.in_features if isinstance(last, nn.Linear) else last.in_channels


def _shrink_stem(net: nn.Module, required: bool) -> None:
    """Replace the stem by a 3x3 convolution with stride 1 and no pooling, where the net has one."""
    stem = STEMS.get(type(net).__name__)
    if stem is None:
        if required:
            raise UserError(f"model.stem=small: for {', '.join(STEMS)}; {type(net).__name__} has no such stem")
        return
    convolution, pooling = stem
    large = net.get_submodule(convolution)
    assert isinstance(large, nn.Conv2d)
    small = nn.Conv2d(3, large.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    net.set_submodule(convolution, small)
    if pooling is not None:
        net.set_submodule(pooling, nn.Identity())


def _wrong_size(name: str, sides: tuple[int, ...], error: Exception) -> UserError:
    from torchvision import models

    usual = models.get_model_weights(name)["DEFAULT"].transforms().crop_size[0]
    return finetuning.wrong_size(name, sides, error, usual)


def _unfetched(weights: str, url: str, error: Exception) -> UserError:
    place = f"{torch.hub.get_dir()}/checkpoints/{url.rpartition('/')[2]}"
    reason = finetuning.reason(error)
    return UserError(f"model.weights={weights} cannot be had ({reason}): put {url} at {place} (TORCH_HOME moves it)")
