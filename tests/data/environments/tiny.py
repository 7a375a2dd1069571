"""Few episodes."""

from __future__ import annotations

from tests.scratch import Tiny

COUNTS = {"steps": 256, "num_envs": 2, "val_episodes": 8, "test_episodes": 8}
DATASETS = {"environment": Tiny(lambda: [f"data.{option}={count}" for option, count in COUNTS.items()])}
