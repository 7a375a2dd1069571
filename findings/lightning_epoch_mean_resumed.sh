#!/usr/bin/env bash
# An epoch's mean that is only the mean of its last batches.
#
# One would expect: `self.log(name, value, on_epoch=True)` gives the mean over the batches of the epoch, also where the
#   run stopped in the middle of the epoch and goes on from a checkpoint that ModelCheckpoint made there.
# What happens: the checkpoint holds how many batches of the epoch are done, but not what was logged in them, so the
#   epoch's value is the mean over the batches since. Nothing says so: the value of a resumed run looks like any other.
# Versions: pytorch-lightning 2.6.6, torch 2.14.1, Python 3.11.
# Why it matters here: a run that was resumed would have other results than one that went through, and a leap in its
#   curve. The metrics of Labbook's own models are part of the model's state; what a user's own module logs is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pytorch-lightning==2.6.6 torch==2.14.1

cat > "$folder/try.py" <<'PYTHON'
import sys
import warnings

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

warnings.simplefilter("ignore")
folder = sys.argv[1]


class Net(pl.LightningModule):
    """Logs the number of each batch of the epoch, and notes it."""

    def __init__(self):
        super().__init__()
        self.weight, self.batches = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, number):
        self.batches.append(number)
        self.log("number", float(number), on_step=False, on_epoch=True, batch_size=1)
        return self.weight * batch.mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(title, **resumed):
    saves = ModelCheckpoint(folder, "{step}", every_n_train_steps=6, save_top_k=-1)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[saves],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    net = Net()
    trainer.fit(net, DataLoader(torch.ones(10), batch_size=1), **resumed)
    print(f"{title}: batches {net.batches}, mean of the epoch {trainer.callback_metrics['number'].item()}")


run("at a stretch")
run("resumed", ckpt_path=f"{folder}/step=6.ckpt")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py" "$folder" 2> "$folder/log") || { cat "$folder/log" >&2; exit 1; }
echo "$seen"
[[ $seen == "at a stretch: batches [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], mean of the epoch 4.5
resumed: batches [6, 7, 8, 9], mean of the epoch 7.5" ]]

# Seen:
# at a stretch: batches [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], mean of the epoch 4.5
# resumed: batches [6, 7, 8, 9], mean of the epoch 7.5
