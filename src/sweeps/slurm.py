"""Name by which SLURM arrays that an earlier release submitted know their jobs; kept for one release."""

from src.sweeps.launchers.slurm import RequeuedMonitor as Requeued

__all__ = ["Requeued"]
