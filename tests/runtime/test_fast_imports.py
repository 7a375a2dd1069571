"""A run imports what it uses and no more, and what it left out still works for those who need it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, Lab

SPY = '''
"""A user's own model, which tells at its first step what has been imported."""
import sys
from src.models.fnn import FNN

HEAVY = ("torchvision", "scipy", "matplotlib", "pandas", "sklearn", "mlflow", "sqlalchemy", "transformers")

class Spy(FNN):
    def training_step(self, batch, batch_idx):
        print("loaded", *[name for name in HEAVY if name in sys.modules])
        return super().training_step(batch, batch_idx)
'''


def python(*arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_gets_to_its_first_step_on_torch_and_lightning_alone(lab: Lab) -> None:
    (lab.folder / "spying.py").write_text(SPY)
    options = ["model=fnn", "model._target_=spying.Spy", "debug=fast_dev_run"]
    out = python("-m", "src.train", *options, env=lab.env | {"PYTHONPATH": str(lab.folder)})
    assert out.split("\n")[1].split() == ["loaded"], out


def test_what_was_left_out_works_when_it_is_asked_for() -> None:
    out = python(
        "-c",
        """
import sys
from src.runtime import fast_imports
with fast_imports.quickly():
    import src.experiment.run
import torch
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.detection import IntersectionOverUnion
from torchmetrics.functional.image.arniqa import resnet50
from torchmetrics.functional.audio import permutation_invariant_training, signal_noise_ratio

overlap = IntersectionOverUnion()
boxes = [{"boxes": torch.tensor([[0.0, 0.0, 2.0, side]]), "labels": torch.tensor([0])} for side in (2.0, 1.0)]
print(overlap(*[[box] for box in boxes])["iou"].item())
counts = MulticlassConfusionMatrix(2)
counts.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
print(counts.plot()[1].get_xlabel())
sound = torch.randn(1, 2, 30, generator=torch.Generator().manual_seed(0))
import torchmetrics.text
import transformers
print(sys.modules["torchmetrics.functional.text.bert"].AutoModel is transformers.AutoModel)
print(permutation_invariant_training(sound.flip(1), sound, signal_noise_ratio)[1].tolist())
""",
    )
    assert out.split("\n")[:4] == ["0.5", "Predicted class", "True", "[[1, 0]]"]
