"""Costs of a run: parameters, floating-point operations, seconds, memory, energy, and its share of a GPU's peak."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from src.models.base import Model

# Peak dense TFLOP/s by words of the name, the first match counts: 64-bit, 32-bit, TF32, bfloat16, float16, each
# without sparsity, the last two accumulated in 32 bit; 0 where a card has no such units. From NVIDIA's data sheets
# (H200, H100, A100, A10, L40S, L4, T4, V100) and architecture whitepapers (GA102: RTX 3090, A6000; Ada: RTX 4090).
PEAKS: tuple[tuple[str, tuple[float, float, float, float, float]], ...] = (
    ("H200 NVL", (30, 60, 417.5, 835.5, 835.5)),
    ("H200", (34, 67, 494.7, 989.4, 989.4)),
    ("H100 NVL", (30, 60, 417.5, 835.5, 835.5)),
    ("H100 PCIe", (26, 51, 378, 756.5, 756.5)),
    ("H100 80GB HBM3", (34, 67, 494.7, 989.4, 989.4)),  # the SXM module
    ("A100", (9.7, 19.5, 156, 312, 312)),
    ("A10", (0.49, 31.2, 62.5, 125, 125)),
    ("A10G", (0.49, 31.2, 62.5, 125, 125)),
    ("L40S", (1.4, 91.6, 183, 362, 362)),
    ("L4", (0.47, 30.3, 60, 121, 121)),
    ("T4", (0.25, 8.1, 0, 0, 65)),
    ("V100S", (8.2, 16.4, 0, 0, 130)),
    ("V100-PCIE", (7, 14, 0, 0, 112)),
    ("V100-SXM2", (7.8, 15.7, 0, 0, 125)),
    ("RTX A6000", (0.6, 38.7, 77.4, 154.8, 154.8)),
    ("RTX 3090", (0.56, 35.6, 35.6, 71, 71)),
    ("RTX 4090", (1.3, 82.6, 82.6, 165.2, 165.2)),
)
PRECISIONS = ("64", "32", "tf32", "bf16", "16")

NAMES = tuple(  # of what every run records; a GPU without a counter has no energy
    f"cost/{name}"
    for name in ("parameters", "flops", "seconds", "samples_per_second", "peak_memory_megabytes", "energy_joules")
)
CORE_WATTS, GIGABYTE_WATTS = 12.0, 0.3725
RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


def parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def flops(model: Model, batch: Mapping[str, Tensor]) -> int:
    """Floating-point operations of training's forward pass for one example (a multiply and an add count as two)."""
    training = model.training
    model.eval()
    model.training = True  # of the model alone, which may do more in evaluation; the layers' statistics stay
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        one = {name: tensor[:1] for name, tensor in batch.items()}
        model.outputs(model.task.prepare(one))
    model.train(training)
    return counter.get_total_flops()


def peak_flops(device: str, precision: str | int, *, tf32: bool = False) -> float | None:
    """Dense floating-point operations a second that a GPU could do at most; None where that is not known.

    Args:
        device: its name, as torch.cuda.get_device_name gives it.
        precision: the trainer's, such as 32-true or bf16-mixed.
        tf32: whether 32-bit matrices are multiplied as TensorFloat-32, where the card can.
    """
    kind = str(precision).partition("-")[0]
    for words, peaks in PEAKS:
        if re.search(rf"\b{re.escape(words)}(?! (Ti|D|SUPER|Laptop)\b)(?!\w)", device):
            by_precision = dict(zip(PRECISIONS, peaks, strict=True))
            if kind == "32" and tf32 and by_precision["tf32"]:
                kind = "tf32"
            return by_precision.get(kind, 0) * 1e12 or None
    return None


def takes_tf32(model: nn.Module) -> bool:
    """True where torch may use TensorFloat-32 in this model: in convolutions by default, elsewhere if asked for."""
    convolves = any(p.ndim == 4 for p in model.parameters())
    return torch.get_float32_matmul_precision() != "highest" or (convolves and torch.backends.cudnn.allow_tf32)


def utilization(flops: float, samples_per_second: float, peak: float) -> float:
    """Model FLOPs utilization of training (Chowdhery et al. 2022, arXiv:2204.02311): a share of a device's peak.

    Args:
        flops: of the forward pass for one example; backward counts as twice that.
        samples_per_second: on one device.
        peak: of one device, operations a second.
    """
    return 3 * flops * samples_per_second / peak


class Meter:
    """Meter of this process from its construction on: memory at its peak, and energy."""

    def __init__(self) -> None:
        _forget_peak()
        self.joules, self.core_seconds, self.began = joules(), _core_seconds(), time.monotonic()

    def read(self) -> tuple[dict[str, float], str]:
        """Figures from the construction until now, and the source of the energy's figure.

        `cost/peak_memory_megabytes` is the process's own resident memory, `cost/peak_gpu_memory_megabytes` what its
        tensors took at most on one GPU; both without workers and other processes. `cost/energy_joules` is the
        difference of `joules`. Where there is no counter it is an estimate for processor and memory (Lannelongue,
        Grealey and Inouye 2021, Advanced Science 8:2100707): 12 W for each core in use, their figure for a processor
        that is not known, and 0.3725 W for each GB; on a GPU without a counter there is none.
        """
        memory = _peak_bytes()
        costs = {"cost/peak_memory_megabytes": memory / 1e6}
        if torch.cuda.is_initialized():
            peaks = (torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
            costs["cost/peak_gpu_memory_megabytes"] = max(peaks) / 1e6
        now = joules()
        if self.joules is not None and now is not None and now[1] == self.joules[1] and now[0] >= self.joules[0]:
            return costs | {"cost/energy_joules": now[0] - self.joules[0]}, f"counter of {now[1]}"
        if torch.cuda.is_initialized() or torch.backends.mps.is_available():
            return costs, "unknown: a GPU without a counter"
        seconds = time.monotonic() - self.began
        energy = CORE_WATTS * (_core_seconds() - self.core_seconds) + GIGABYTE_WATTS * memory / 1e9 * seconds
        return costs | {"cost/energy_joules": energy}, f"estimate: {CORE_WATTS} W a core, {GIGABYTE_WATTS} W a GB"


def measured(seconds: float, rows: int, flops: float, peak: float | None) -> dict[str, float]:
    """Costs of a training: seconds, training rows a second, and share of the device's peak where that is known.

    Args:
        rows: that were trained on.
        flops, peak: see `utilization`.
    """
    costs = {"cost/seconds": seconds}
    if seconds:
        costs["cost/samples_per_second"] = rows / seconds
        if peak:
            costs["cost/mfu"] = utilization(flops, rows / seconds, peak)
    return costs


def joules() -> tuple[float, str] | None:
    """Energy counter of this machine's GPUs, or else of its processor package, and whose it is; None without one."""
    if torch.cuda.is_available():
        try:
            import pynvml  # noqa: PLC0415 (optional, and of use beside a GPU only)

            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(torch.cuda.device_count())]
            return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1000, "the GPUs"
        except Exception:  # noqa: BLE001 (no NVML, or a card without the counter: the processor's is the next best)
            pass
    try:
        return int(RAPL.read_text()) / 1e6, "the processor"
    except OSError:
        return None


def _core_seconds() -> float:
    """Processor time of this process and of its workers that have ended."""
    return sum(os.times()[:4])


def _forget_peak() -> None:
    """Reset the peaks of memory, so that the runs of one process each have their own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # of a kernel without it: the peak stays that of the process
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def _peak_bytes() -> int:
    """The most memory that this process had resident since `_forget_peak`, elsewhere than on Linux since its start."""
    if sys.platform == "linux":
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
