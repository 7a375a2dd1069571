"""What a run costs: parameters, floating-point operations, seconds, energy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


def parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def flops(model: nn.Module, batch: Mapping[str, Tensor]) -> int:
    """Floating-point operations of training's forward pass for one example (a multiply and an add count as two)."""
    training = model.training
    model.eval()
    model.training = True  # of the model alone, which may do more in evaluation; the layers' statistics stay
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch["input"][:1])
    model.train(training)
    return counter.get_total_flops()


def joules() -> float | None:
    """Energy counter of this machine's GPUs, or else of its processor package; None where neither can be read."""
    if torch.cuda.is_available():
        try:
            import pynvml

            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(torch.cuda.device_count())]
            return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1000
        except Exception:  # no NVML, or a card without the counter: the processor's counter is the next best
            pass
    try:
        return int(RAPL.read_text()) / 1e6
    except OSError:
        return None
