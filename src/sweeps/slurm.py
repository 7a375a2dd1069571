"""Name of an earlier release, by which SLURM's arrays that were submitted then know their jobs; kept for one release."""

from src.sweeps.launchers.slurm import RequeuedMonitor as Requeued

__all__ = ["Requeued"]
