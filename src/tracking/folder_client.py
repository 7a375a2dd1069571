"""What a run without tracking has in the place of MLflow's client: files go into its folder, all else is dropped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml


class FolderClient:
    """Takes the calls of `mlflow.MlflowClient` that write; those that read give None, since nothing is stored.

    Args:
        folder: for the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def log_artifact(self, run_id: str, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Copy a file or a folder into a folder of the run's."""
        source, place = Path(local_path), self._place(artifact_path or "") / Path(local_path).name
        if source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)

    def log_artifacts(self, run_id: str, local_dir: str | Path, artifact_path: str | None = None) -> None:
        """Copy what a folder holds."""
        shutil.copytree(local_dir, self._place(artifact_path or ""), dirs_exist_ok=True)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Write a text."""
        self._file(artifact_file).write_text(text, encoding="utf-8")

    def log_dict(self, run_id: str, dictionary: dict[str, Any], artifact_file: str) -> None:
        """Write a dict as YAML where the name says so, else as JSON."""
        is_yaml = artifact_file.endswith((".yaml", ".yml"))
        content = yaml.safe_dump(dictionary) if is_yaml else json.dumps(dictionary, indent=2, default=str)
        self.log_text(run_id, content, artifact_file)

    def log_figure(self, run_id: str, figure: Any, artifact_file: str, **options: Any) -> None:  # noqa: ANN401
        """Write a figure of matplotlib or plotly."""
        save = figure.savefig if hasattr(figure, "savefig") else figure.write_html
        save(self._file(artifact_file), **options.get("save_kwargs") or {})

    def log_image(self, run_id: str, image: Any, artifact_file: str | None = None, **options: Any) -> None:  # noqa: ANN401
        """Write an image: of PIL, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."""
        from PIL import Image  # noqa: PLC0415 (few runs need it)

        if not hasattr(image, "save"):
            array = image if image.dtype == "uint8" else (image * (255 if image.max() <= 1 else 1)).astype("uint8")
            image = Image.fromarray(array.squeeze(2) if array.ndim == 3 and array.shape[2] == 1 else array)
        step = options.get("step") or 0
        image.save(self._file(artifact_file or f"images/{options.get('key') or 'image'}-{step}.png"))

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: None

    def _place(self, path: str) -> Path:
        place = self._folder / path
        if not place.resolve().is_relative_to(self._folder.resolve()):
            raise ValueError(f"artifact path {path!r} leads out of the run's directory")
        return place

    def _file(self, path: str) -> Path:
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place
