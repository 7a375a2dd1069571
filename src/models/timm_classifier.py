"""Any net of timm for classes or a number (https://huggingface.co/docs/timm), as timm itself makes it.

timm: Wightman 2019, PyTorch Image Models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from src.errors import UserError, suggest
from src.models.base import Model
from src.models.components import finetuning
from src.models.components.finetuning import Freeze
from src.models.components.layers import take_lone_values
from src.runtime import optional
from src.runtime.ranges import PositiveInt, Share
from src.spec import DataSpec, ImageSpec
from src.tasks import Task

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

FILLED = {  # arguments of timm that options or data fill, and by what
    "pretrained": "model.pretrained",
    "drop_rate": "model.drop_rate",
    "drop_path_rate": "model.drop_path_rate",
    "img_size": "the data, or model.resize",
    "in_chans": "the data",
    "num_classes": "the task",
}


class TimmClassifier(Model):
    """`timm.create_model(name, num_classes=..., in_chans=..., img_size=...)`, sizes from the data: the net is `net`.

    Outputs, names of weights and random weights are timm's. With `pretrained` images are normalised as those weights
    were trained, not by the training split. Batch normalisation takes a batch of one value a channel as
    src/models/components/layers.py says. A checkpoint brings its own weights: it is read without timm's.

    Args:
        spec: what the data is; input (C, H, W) of any number of channels.
        task: gives the number of outputs.
        name: of timm.list_models(), or with the tag of its weights, as `resnet18.a1_in1k`.
        pretrained: training starts from timm's weights, fetched once into the cache of Hugging Face. Its classes stay
            where they are as many as the data's, else they start at random.
        resize: images are scaled to this height and width first; null: they are taken as they are.
        drop_rate: dropout before the classes; null: timm's usual.
        drop_path_rate: share of residual branches left out in training (Huang et al. 2016, arXiv:1603.09382), of nets
            that have them; null: timm's usual.
        options: further arguments of timm's: {global_pool: avg}.
        freeze: `none`: everything trains. `head_only`: only the last layer does, the net before it stays as in
            evaluation. `all`: no weight before it trains, but batch norms go on measuring and dropout stays on.
        backbone_lr_factor: learning rate before the last layer, as a share of the optimizer's.

    Raises:
        UserError: timm is missing, an unknown name or option, images of a size that the net cannot take.
    """

    inputs = (ImageSpec,)
    tasks = ("classification", "binary", "regression")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        name: str = "resnet18",
        pretrained: bool = False,
        resize: PositiveInt | None = None,
        drop_rate: Share | None = None,
        drop_path_rate: Share | None = None,
        options: dict = {},  # noqa: B006 (read alone)
        freeze: Freeze = "none",
        backbone_lr_factor: float = 1.0,
    ) -> None:
        finetuning.check(freeze, backbone_lr_factor)
        known = _known(name, pretrained)
        for option in FILLED.keys() & options.keys():
            raise UserError(f"model.options.{option}: {FILLED[option]} gives it")
        if pretrained:
            spec = spec.with_input(**_scale(known, spec.input_as(ImageSpec)))
        super().__init__(spec, task)
        self.name, self.pretrained = name, pretrained
        self.freeze = freeze  # type: ignore[assignment]  # in the place of a method that no one calls
        self.body_lr_factor = backbone_lr_factor
        self.sides = (resize, resize) if resize else spec.input_shape[1:]
        self.options = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate, **options}
        self.usual_side = known.input_size[-1]
        if known.fixed_input_size:
            self.options["img_size"] = self.sides
        self.net = self._make(pretrained=False)
        last = known.classifier or "head"
        self.heads = tuple(f"net.{layer}." for layer in ((last,) if isinstance(last, str) else last))
        if freeze != "none":
            for key, p in self.named_parameters():
                p.requires_grad_(key.startswith(self.heads))
        self._try_size()
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """Raw images (B, C, H, W) to outputs (B, num_outputs)."""
        x = self.normalize(x)
        if x.shape[-2:] != self.sides:
            x = F.interpolate(x, self.sides, mode="bilinear", antialias=True)
        return self.net(x)

    @override
    def train(self, mode: bool = True) -> TimmClassifier:
        super().train(mode)
        if self.freeze == "head_only":
            self.net.eval()
        return self

    def load_pretrained(self) -> TimmClassifier:
        """Load timm's weights, and return itself; without `pretrained` nothing changes."""
        if self.pretrained:
            self.net.load_state_dict(self._make(pretrained=True).state_dict())
        return self

    def _make(self, *, pretrained: bool) -> nn.Module:
        """The net as timm makes it.

        Raises:
            UserError: timm refuses it, or has no way to its weights.
        """
        import timm

        sizes: dict[str, Any] = {"num_classes": self.task.num_outputs, "in_chans": self.spec.input_shape[0]}
        try:
            net = timm.create_model(self.name, pretrained=pretrained, **sizes, **self.options)
        except TypeError as error:
            raise UserError(f"model.options: timm's {self.name} refuses them ({finetuning.reason(error)})") from error
        except Exception as error:  # of the network, of files, of sizes
            if not pretrained:
                raise finetuning.wrong_size(self.name, self.sides, error, self.usual_side) from error
            raise UserError(
                f"model.pretrained=true: the weights of {self.name} cannot be had ({finetuning.reason(error)}); "
                "HF_HOME names the folder of those that were fetched before, init_from=FILE takes others"
            ) from error
        take_lone_values(net)
        return net

    def _try_size(self) -> None:
        """Run one black image through the net in evaluation, to see that it takes this size."""
        self.net.eval()
        try:
            with torch.no_grad():
                self.net(torch.zeros(1, self.spec.input_shape[0], *self.sides))
        except finetuning.REFUSALS as error:
            raise finetuning.wrong_size(self.name, self.sides, error, self.usual_side) from error

    @override
    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take weights as timm saves them too, whose names do not begin with `net.`; classes of another number stay."""
        own = self.state_dict()
        renamed = {key if key in own else f"net.{key}": tensor for key, tensor in state.items()}
        return {
            key: tensor
            for key, tensor in renamed.items()
            if not key.startswith(self.heads) or (key in own and tensor.shape == own[key].shape)
        }


def _known(name: str, pretrained: bool) -> PretrainedCfg:
    """What timm knows of a net, and of its weights where the name has their tag.

    Raises:
        UserError: there is no such net, or it has no such weights.
    """
    optional.require("timm", optional.extra("timm"), for_="model=timm")
    import timm

    plain, _, tag = name.partition(".")
    models = timm.list_models()
    if plain not in models:
        raise UserError(f"model.name={name} is no net of timm{suggest(plain, models)}")
    tags = [key.partition(".")[2] for key in timm.list_pretrained(plain)] if tag or pretrained else []
    if tag and tag not in tags:
        raise UserError(
            f"model.name={name}: {plain} has the weights {', '.join(tags) or 'of no tag'}{suggest(tag, tags)}"
        )
    if pretrained and not any(tags):
        raise UserError(f"model.pretrained=true: timm has no weights of {name}")
    found = timm.get_pretrained_cfg(name)
    assert found is not None  # every listed net has one
    return found


def _scale(known: PretrainedCfg, images: ImageSpec) -> dict[str, tuple[float, ...]]:
    """Mean and standard deviation of each channel that the weights expect; of grey images their average.

    timm repeats its first filters over further channels, and so are these.
    """
    channels = images.shape[0]

    def of_channels(shares: tuple[float, ...]) -> tuple[float, ...]:
        values = [math.fsum(shares) / len(shares)] if channels == 1 else shares
        return tuple(images.levels * share for share in islice(cycle(values), channels))

    return {"mean": of_channels(known.mean), "std": of_channels(known.std)}
