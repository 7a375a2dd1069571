"""Sweeps: a ledger of jobs whose configurations are frozen, and the processes that run them."""

from src.sweeps.jobs.ledger import Job, current, latest

__all__ = ["Job", "current", "latest"]
