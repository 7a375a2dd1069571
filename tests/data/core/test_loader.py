"""The order of an epoch, the loader in the main process and in workers, and resuming in the middle of an epoch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from src.data.core import loader as loading
from src.data.core.loader import Loader
from src.data.core.module import augmented
from src.data.core.samplers import EpochSampler, InOrder
from src.data.images.augment import Augment
from src.errors import UserError
from src.runtime.stateless_random import draws, mix

PROJECT = Path(__file__).resolve().parents[3]
AUGMENT = Augment(crop=1, flip=True, rotate=20.0, scale=0.1, cutout=2)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def images(rows: int = 50) -> dict[str, torch.Tensor]:
    return {
        "input": torch.randint(0, 256, (rows, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        "target": torch.arange(rows) % 10,
    }


def loader(num_workers: int = 0, *, rows: int = 50, seed: int = 7, augment: bool = True) -> Loader:
    sampler = EpochSampler(rows, 8, seed=seed, shuffle=True)
    return Loader(
        images(rows), sampler, num_workers=num_workers, augment=partial(augmented, AUGMENT, seed) if augment else None
    )


def epoch_of(served: Loader, epoch: int) -> list[dict[str, torch.Tensor]]:
    served.sampler.set_epoch(epoch)
    return list(served)


def same(first: list[dict[str, torch.Tensor]], second: list[dict[str, torch.Tensor]]) -> bool:
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)
        for a, b in zip(first, second, strict=True)
    )


class Unlimited:
    """Rows that are computed when asked for, as a file reader would."""

    shape, dtype = (50,), torch.float32

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        if 49 in index:
            raise UserError("rows.csv, row 49: no target")
        return index.float() * 2


# the order -----------------------------------------------------------------------------------------------------------


def test_seeds_are_mixed_in_order_and_fit_64_bits():
    values = {mix(a, b) for a in range(-20, 20) for b in range(40)}
    assert len(values) == 1600
    assert all(0 <= v < 2**64 for v in values)
    assert mix(1, 2) != mix(2, 1)
    # pinned: a run resumed under a later version must draw the same numbers
    assert mix(0) == 0xE220A8397B1DCDAF


def test_draws_are_uniform_and_belong_to_the_row():
    index = torch.arange(20_000)
    values = draws(index, mix(3), 3).double() / 2**24
    assert values.min() >= 0 and values.max() < 1
    assert torch.allclose(values.mean(1), torch.full((3,), 0.5, dtype=torch.float64), atol=0.01)
    assert torch.corrcoef(values).triu(1).abs().max() < 0.03
    assert torch.equal(draws(index[[5, 17]], mix(3), 3), draws(index, mix(3), 3)[:, [5, 17]])


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(50, 8, seed=seed, shuffle=True)
        sampler.set_epoch(epoch)
        torch.rand(3)  # the global generator is not part of it
        return torch.cat(list(sampler)).tolist()

    assert sorted(order(1, 0)) == list(range(50))
    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) != order(2, 1)
    # pinned: an epoch that is resumed under a later version goes on with the rows it has not seen
    assert order(1, 0)[:6] == [6, 17, 12, 18, 26, 41]


def test_the_epoch_is_read_at_the_first_batch():
    sampler = EpochSampler(50, 8, seed=1, shuffle=True)
    early = iter(sampler)
    sampler.set_epoch(3)
    assert torch.equal(torch.cat(list(early)), torch.cat(list(sampler.batches(3))))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    ("rows", "batch_size", "world_size"), [(50, 8, 1), (50, 8, 3), (49, 8, 3), (7, 1, 3), (5, 8, 4)]
)
def test_ranks_share_an_epoch_evenly(rows, batch_size, world_size, drop_last):
    if drop_last and rows < batch_size * world_size:
        with pytest.raises(UserError, match="drop_last leaves no batch"):
            EpochSampler(rows, batch_size, seed=0, shuffle=True, drop_last=True, world_size=world_size)
        return
    ranks = []
    for rank in range(world_size):
        options = {"drop_last": drop_last, "rank": rank, "world_size": world_size}
        sampler = EpochSampler(rows, batch_size, seed=0, shuffle=True, **options)
        ranks.append(list(sampler))
        assert len(ranks[-1]) == len(sampler)
    assert len({len(batches) for batches in ranks}) == 1
    for step in zip(*ranks, strict=True):
        sizes = [len(index) for index in step]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
        assert not drop_last or set(sizes) == {batch_size}
    served = torch.cat([index for batches in ranks for index in batches]).tolist()
    assert len(set(served)) == len(served)
    assert drop_last or sorted(served) == list(range(rows))


def test_more_ranks_than_rows_is_refused():
    with pytest.raises(UserError, match="3 rows cannot be shared by 4 processes"):
        EpochSampler(3, 8, seed=0, shuffle=True, world_size=4)


# the loader ----------------------------------------------------------------------------------------------------------


def test_batches_hold_the_rows_they_name():
    data = images()
    for batch in epoch_of(loader(augment=False), 0):
        assert torch.equal(batch["input"], data["input"][batch["index"]])
        assert torch.equal(batch["target"], data["target"][batch["index"]])


def test_evaluation_serves_views_in_order():
    data = images()
    batches = list(Loader(data, InOrder(50, 20)))
    assert torch.equal(torch.cat([b["input"] for b in batches]), data["input"])
    assert torch.cat([b["index"] for b in batches]).tolist() == list(range(50))
    assert batches[1]["input"].data_ptr() == data["input"][20:].data_ptr()


def test_workers_serve_the_same_bits_in_every_epoch():
    here, workers = loader(0), loader(2)
    before = torch.get_rng_state()
    for epoch in (0, 1, 5):
        assert same(epoch_of(here, epoch), epoch_of(workers, epoch))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_go_on_after_an_epoch_cut_short():
    workers = loader(2)
    cut = iter(workers)
    next(cut)
    assert same(epoch_of(workers, 1), epoch_of(loader(0), 1))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_data_larger_than_memory_is_read_in_whole_batches(num_workers):
    served = Loader({"input": Unlimited()}, EpochSampler(40, 8, seed=0, shuffle=True), num_workers=num_workers)
    for batch in served:
        assert torch.equal(batch["input"], batch["index"].float() * 2)
    broken = Loader({"input": Unlimited()}, EpochSampler(50, 8, seed=0, shuffle=True), num_workers=num_workers)
    with pytest.raises(UserError, match="^rows.csv, row 49: no target$"):
        list(broken)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_goes_on_where_another_stopped(num_workers):
    whole = loader(num_workers)
    expected = epoch_of(whole, 2)
    stopped = loader(num_workers)
    stopped.sampler.set_epoch(2)
    batches = iter(stopped)
    head = [next(batches) for _ in range(3)]
    assert stopped.state_dict() == {"epoch": 2, "batch": 3}  # though workers have prepared more

    resumed = loader(num_workers)
    resumed.load_state_dict(stopped.state_dict())
    early = iter(resumed)
    resumed.sampler.set_epoch(2)
    assert len(resumed) == 7 and resumed.state_dict() == {"epoch": 2, "batch": 3}
    assert same(head + list(early), expected)
    assert same(epoch_of(resumed, 3), epoch_of(whole, 3))  # the next epoch is whole
    assert same(epoch_of(resumed, 2), expected)  # and so is the same epoch a second time


def test_a_position_counts_only_for_its_epoch():
    resumed = loader()
    resumed.load_state_dict({"epoch": 2, "batch": 3})
    assert len(epoch_of(resumed, 3)) == 7
    assert len(epoch_of(resumed, 2)) == 7


# on a device ---------------------------------------------------------------------------------------------------------


def test_a_batch_of_rows_on_a_device_is_made_there():
    """torch's `meta` device computes shapes alone, and refuses to be mixed with the CPU's tensors."""
    data = {name: tensor.to("meta") for name, tensor in images().items()}
    augment = partial(augmented, AUGMENT, 7)
    shuffled = Loader(data, EpochSampler(50, 8, seed=7, shuffle=True, device="meta"), augment=augment)
    in_order = Loader(data, InOrder(50, 20, device="meta"))
    for served, there in ((loader(), shuffled), (Loader(images(), InOrder(50, 20)), in_order)):
        for here, batch in zip(served, there, strict=True):
            assert {(name, t.device.type, t.shape, t.dtype) for name, t in batch.items()} == {
                (name, "meta", t.shape, t.dtype) for name, t in here.items()
            }


def test_the_order_of_an_epoch_moves_once(monkeypatch: pytest.MonkeyPatch):
    moved = []
    original = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda t, *args, **kw: moved.append(t.shape) or original(t, *args, **kw))
    served = list(EpochSampler(50, 8, seed=7, shuffle=True, device="meta"))
    assert moved == [(50,)] and all(index.device.type == "meta" for index in served)


def test_the_device_s_way_to_gather_rows_gives_the_same_batches(monkeypatch: pytest.MonkeyPatch):
    expected = epoch_of(loader(), 2)
    monkeypatch.setattr(loading, "_Gathered", lambda tensor: tensor)  # torch's own indexing, as for rows on a GPU
    assert same(epoch_of(loader(), 2), expected)
    resumed = loader()
    resumed.load_state_dict({"epoch": 2, "batch": 3})
    assert same(epoch_of(resumed, 2), expected[3:])


# with Lightning ------------------------------------------------------------------------------------------------------


class Recorder(pl.LightningModule):
    """Notes the rows of each step; saves a checkpoint after one of them."""

    def __init__(self, save_at: tuple[int, int] | None = None, path: Path | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.save_at = save_at
        self.path = path
        self.seen: list[tuple[int, list[int], int]] = []
        self.losses: list[float] = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch["index"].tolist(), int(batch["input"].sum())))
        loss = torch.nn.functional.cross_entropy(self.layer(batch["input"].flatten(1) / 255), batch["target"])
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        pass

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if (self.current_epoch, batch_idx) == self.save_at:
            self.trainer.save_checkpoint(self.path)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(module: Recorder, num_workers: int, ckpt_path: Path | None = None, **options) -> Recorder:
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"max_epochs": 3} | options),
    )
    served = loader(num_workers)
    trainer.fit(module, served, Loader(images(), InOrder(50, 20)), ckpt_path=ckpt_path)
    assert served._iterator is None  # Lightning has ended the workers
    return module


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("save_at", [(0, 0), (0, 6), (1, 2), (2, 5)])
def test_lightning_resumes_with_exactly_the_batches_left(tmp_path, num_workers, save_at):
    torch.manual_seed(0)
    whole = fit(Recorder(save_at, tmp_path / "middle.ckpt"), num_workers)
    epochs = [[rows for epoch, rows, _ in whole.seen if epoch == e] for e in range(3)]
    assert all(sorted(chain.from_iterable(rows)) == list(range(50)) for rows in epochs)
    assert all(a != b for a, b in pairwise(epochs))  # set_epoch arrived

    resumed = fit(Recorder(), num_workers, tmp_path / "middle.ckpt")
    steps = save_at[0] * 7 + save_at[1] + 1
    assert resumed.seen == whole.seen[steps:]
    assert resumed.losses == whole.losses[steps:]
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_lightning_resumes_a_run_counted_in_steps(tmp_path):
    options = {"max_epochs": -1, "max_steps": 18}
    whole = fit(Recorder((1, 2), tmp_path / "middle.ckpt"), 0, **options)
    resumed = fit(Recorder(), 0, tmp_path / "middle.ckpt", **options)
    assert resumed.seen == whole.seen[10:]


# workers as processes ------------------------------------------------------------------------------------------------

SERVING = """
    import sys, torch
    sys.path.insert(0, {project!r})
    from src.data.core.loader import EpochSampler, Loader

    torch.set_num_threads(2)
    x = torch.randn(400, 400, requires_grad=True)
    (x @ x).exp().sum().backward()  # the thread pools of the forward and the backward pass are running
    data = {{"input": torch.zeros(100_000, 1, 8, 8, dtype=torch.uint8)}}
    loader = Loader(data, EpochSampler(100_000, 8, seed=0, shuffle=True), num_workers=2)
    for epoch in range(10_000):
        loader.sampler.set_epoch(epoch)
        for step, batch in enumerate(loader):
            (x @ x).sum().backward()
            if epoch == 0 and step == 3:
                print("serving", *[w.pid for w in loader._iterator._workers], flush=True)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_stopping_leaves_no_worker_and_no_noise_of_theirs(stop):
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVING.format(project=str(PROJECT)))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        workers = [int(pid) for pid in run.stdout.readline().split()[1:]]
        assert len(workers) == 2
        if stop == signal.SIGINT:
            os.killpg(run.pid, stop)  # as a terminal does
        else:
            os.kill(run.pid, stop)
        errors = run.communicate(timeout=20)[1]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    # at most this script's own KeyboardInterrupt
    assert errors.count("Traceback") == (1 if stop == signal.SIGINT else 0), errors
    assert stop != signal.SIGINT or errors.rstrip().endswith("KeyboardInterrupt"), errors
