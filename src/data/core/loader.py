"""The order of an epoch and the loader that serves it: from memory, resumable to the batch, with or without workers."""

from __future__ import annotations

import atexit
import contextlib
import math
import signal
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from src.data.core.lazy import Columns
from src.data.core.samplers import EpochSampler
from src.errors import UserError
from src.runtime import signals
from src.runtime.compat import torch as compat

Batch = dict[str, Tensor]
BatchT = TypeVar("BatchT")


Augmentation = Callable[[Batch, int], Batch]


_ONE_THREAD = 32_768  # elements up to which torch does not go parallel


class Loader:
    """Serves batches `{name: (B, ...), "index": (B,)}` in the sampler's order.

    Args:
        data: tensors or Columns of one length, on the sampler's device. Unshuffled tensors are served as views: do not
            write into a batch.
        sampler: decides order, batch size and share of this rank.
        num_workers: processes that prepare batches ahead; the batches are the same for any number.
        augment: `(batch, epoch) -> batch`, a function of its arguments alone.

    The state is the position in the epoch: batches handed out, not those prepared ahead.
    """

    # Lightning reads it wherever there is a sampler
    batch_sampler = None

    def __init__(
        self,
        data: Columns,
        sampler: EpochSampler,
        *,
        num_workers: int = 0,
        augment: Augmentation | None = None,
    ) -> None:
        self.sampler = sampler
        self.num_workers = num_workers
        self._source = _Source(data, augment, views=not sampler.shuffle and num_workers == 0)
        self._epoch = 0
        self._served = 0
        self._requests = _Requests(sampler)
        self._workers: DataLoader | None = None
        # under this name Lightning finds it at the end of a run, shuts the workers down and sets None
        self._iterator: Any = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        self._epoch, self._served = self.sampler.begin()
        batches = self._from_workers() if self.num_workers else self._from_here()
        for batch in batches:
            self._served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches served, for a checkpoint."""
        return {"epoch": self._epoch, "batch": self._served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue the epoch of a checkpoint after the batches it had served."""
        self._epoch, self._served = state["epoch"], state["batch"]
        self.sampler.resume(self._epoch, self._served)

    def close(self) -> None:
        """End the workers, if any; the next epoch starts new ones."""
        if self._iterator is not None:
            self._end_workers()
            self._iterator = None

    def _from_here(self) -> Iterator[Batch]:
        epoch = self._epoch
        for index in self.sampler.batches(epoch, self._served):
            yield self._source.read(epoch, index)

    def _from_workers(self) -> Iterator[Batch]:
        self._requests.position = self._epoch, self._served
        if self._iterator is None:
            self._start_workers()
        elif self._workers is not None:
            iter(self._workers)  # the same iterator, which goes through the requests anew
        try:
            for batch in self._iterator:
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except GeneratorExit:
            raise  # an epoch cut short: the workers stay for the next one
        except BaseException:
            self.close()
            raise

    def _start_workers(self) -> None:
        self._workers = DataLoader(
            self._source,
            batch_size=None,
            sampler=self._requests,
            num_workers=self.num_workers,
            collate_fn=_unchanged,
            worker_init_fn=_start_worker,
            persistent_workers=True,
            # its own, or starting the workers would draw from the global generator
            generator=torch.Generator(),
            # fork shares the data without a copy; torch sets one thread in a worker before any operation, which
            # is what keeps the parent's thread pool from being waited for
            multiprocessing_context="fork" if sys.platform == "linux" else None,
        )
        with _starting():
            self._iterator = iter(self._workers)
        # holds on to the iterator: a collected cycle would take its queues apart before the workers were told to end,
        # and torch would wait ten seconds for them
        self._end_workers = weakref.finalize(self, compat.worker_stop(self._iterator))
        _with_workers.add(self)


class _Source(Dataset):
    """(epoch, index) -> batch: the same code in the main process and in a worker."""

    def __init__(self, data: Columns, augment: Augmentation | None, *, views: bool) -> None:
        self._columns = {
            name: _served(rows, views) if isinstance(rows, Tensor) else rows for name, rows in data.items()
        }
        self._augment = augment

    def read(self, epoch: int, index: Tensor) -> Batch:
        batch = {name: column[index] for name, column in self._columns.items()}
        batch["index"] = index
        return batch if self._augment is None else self._augment(batch, epoch)

    def __getitem__(self, request: tuple[int, Any]) -> Batch | UserError:
        epoch, index = request
        try:
            return self.read(epoch, torch.from_numpy(index))
        except UserError as error:
            return error  # raised in the main process: torch would wrap it in the worker's traceback


def _served(tensor: Tensor, views: bool) -> _Rows | _Gathered | Tensor:
    if views:
        return _Rows(tensor)
    return _Gathered(tensor) if tensor.is_cpu else tensor


class _Rows:
    """One tensor whose rows are served in their own order, as views."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __getitem__(self, index: Tensor) -> Tensor:
        start = index.storage_offset()  # the first row, as the order counts from 0: its value is on the device
        return self._tensor[start : start + len(index)]


class _Gathered:
    """One tensor whose rows are gathered by one thread. Waking torch's threads costs more than the copying, on a busy
    machine a hundred times as much; numpy's copy wakes none, but is slower to start."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._array = tensor.numpy()
        self._row = tuple(tensor.shape[1:])
        self._most = _ONE_THREAD // max(1, math.prod(self._row))

    def __getitem__(self, index: Tensor) -> Tensor:
        if len(index) <= self._most:
            return self._tensor.index_select(0, index)
        rows = torch.empty((len(index), *self._row), dtype=self._tensor.dtype)
        self._array.take(index.numpy(), 0, rows.numpy(), "clip")  # any other mode copies twice
        return rows

    def __reduce__(self) -> tuple[type[_Gathered], tuple[Tensor]]:
        return _Gathered, (self._tensor,)  # to another process as shared memory, which an array is not


class _Requests(Sampler):
    """Requests to the workers: (epoch, indices). Arrays, since a tensor would take its whole storage along."""

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler
        self.position = 0, 0

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        epoch, first = self.position
        for index in self._sampler.batches(epoch, first):
            yield epoch, index.numpy()

    def __len__(self) -> int:
        return len(self._sampler)


_with_workers: weakref.WeakSet[Loader] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Close all loaders ahead of multiprocessing's exit handler: torch complains of workers that it terminates."""
    for loader in list(_with_workers):
        loader.close()


def _unchanged(batch: BatchT) -> BatchT:
    return batch


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Hold signals back while workers start, until `_start_worker` ran in each."""
    with warnings.catch_warnings(), signals.blocked():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on any fork beside threads
        yield


def _start_worker(worker_id: int) -> None:
    """Ctrl-C reaches the whole terminal group: only the main process answers, and ends its workers by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signals.unblock()
    sys.excepthook = _ignore_hang_up


def _ignore_hang_up(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """In a worker: the main process went away while it was being handed a batch; there is no one left to tell."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)
