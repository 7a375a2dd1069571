"""Images as a modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from src import plots
from src.data.core.chunks import Split
from src.data.core.modality import Modality, Source, register_modality
from src.data.images.inputs import Pictures
from src.data.tables.modality import ARRAYS, archived, handed_array
from src.errors import UserError, suggest
from src.runtime.format import number
from src.spec import Boxes, ImageSpec

if TYPE_CHECKING:
    from src.data.core.inputs import Inputs
    from src.data.core.module import DataModule
    from src.plots.base import Figure

DRAWN = 8  # images of a sample
ON_BAD = ("error", "skip")


@register_modality("image")
class ImageModality(Modality):
    """Images in files or in an archive of arrays, with classes, numbers or boxes."""

    files: ClassVar[type[Pictures]] = Pictures
    is_image = True

    # new rows -------------------------------------------------------------------------------------------------------

    @override
    def options(self, path: Path) -> tuple[str, ...]:
        return ARRAYS if path.suffix == ".npz" else ("on_bad",)

    @override
    def inputs(self, source: Source) -> Inputs:
        if source.path.suffix == ".npz":
            return archived(source, self)
        on_bad = source.options.get("on_bad", "error")
        if on_bad not in ON_BAD:
            raise UserError(f"data.on_bad={on_bad} is not known{suggest(str(on_bad), ON_BAD)}")
        return self.files(self.spec, path=source.path, on_bad=on_bad)

    @override
    def from_memory(self, rows: Any, folder: Path) -> Inputs:
        values = np.asarray(rows)
        if not self.spec.input_as(ImageSpec).is_float and (values == np.clip(np.rint(values), 0, 255)).all():
            values = values.astype(np.uint8)  # as pictures in arrays are
        return handed_array(self, values, folder)

    # in words and pictures ------------------------------------------------------------------------------------------

    @override
    def describe(
        self, splits: Mapping[str, Split], described: Mapping[str, Any], times: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        yield from self._values(described)
        if isinstance(self.spec.target, Boxes):
            yield "boxes", ", ".join(f"{n:,} {split}" for split, n in described["boxes"].items()) + ", by class below"
            for what, count in described.get("changed", {}).items():
                yield "", f"{count:,} {what}"

    def _values(self, described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Facts about the values of a row."""
        form = self.spec.input_as(ImageSpec)
        mean, std = (" ".join(number(value) for value in values) for values in (form.mean, form.std))
        scale = f"0 to {form.levels}" if form.levels else "of any scale"
        yield "pixels", scale + (f", mean {mean}, deviation {std}" if mean else "")

    def draw(self, data: DataModule) -> Figure:
        """Figure of the first training images, as they are and as augmented, with their classes."""
        loader = data.train_dataloader()
        batch = next(iter(loader))
        loader.close()
        batch = {name: values[:DRAWN] for name, values in batch.items()}
        active = data.augmentation() is not None
        plain = {name: column[batch["index"]] for name, column in data.splits["train"].items()} if active else batch
        shown = self.upright(self._shown(plain))
        augmented = self.upright(self._shown(batch)) if active else None
        return plots.samples.images(shown, augmented, self._titles(plain), self.axes)

    def _shown(self, rows: Mapping[str, Tensor]) -> np.ndarray:
        """Images (N, C, H, W), their boxes drawn where they have some."""
        if not isinstance(self.spec.target, Boxes):
            return rows["input"].numpy()
        names, levels = self.spec.class_names, self.spec.input_as(ImageSpec).levels
        found = zip(rows["input"], rows["boxes"], rows["labels"], strict=True)
        drawn = [
            plots.detections.draw_boxes(image, boxes[n >= 0], n[n >= 0], [names[i] for i in n[n >= 0]], levels)
            for image, boxes, n in found
        ]
        return torch.stack(drawn).numpy()

    def _titles(self, rows: Mapping[str, Tensor]) -> list[str]:
        if isinstance(self.spec.target, Boxes):
            return [f"{count} boxes" for count in (rows["labels"] >= 0).sum(1).tolist()]
        names = self.spec.class_names
        return [names[int(value)] if names else f"{value:.4g}" for value in rows["target"].tolist()]

    # attributions ---------------------------------------------------------------------------------------------------

    @property
    @override
    def methods(self) -> tuple[str, ...]:
        return ("integrated gradients", "Grad-CAM", "occlusion")

    def removable(self, x: Tensor) -> Tensor:
        """Mask of all pixels (B, H, W)."""
        return torch.ones_like(x[:, 0], dtype=torch.bool)

    def spread(self, mask: Tensor, x: Tensor) -> Tensor:
        """Expand a mask of pixels to all their channels."""
        return mask.view(len(x), 1, *x.shape[2:])

    @override
    def per_cell(self, values: Tensor) -> Tensor:
        return values.sum(1)

    @override
    def draw_attributions(self, x: Tensor, found: Mapping[str, Tensor], titles: Sequence[str]) -> Figure:
        over = {method: self.upright(values.numpy()) for method, values in found.items()}
        return plots.attribution.overlays(self.upright(x.numpy()), over, titles)
