"""Freezes the jobs of a sweep: a composed config, a name and a key each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict

from src.runtime import renames
from src.sweeps.jobs.ledger import Frozen
from src.sweeps.jobs.trials import Point

# how a sweep is run, not what it is; repeats and folds are in its jobs
TERMS = ("n_jobs", "jobs_per_gpu", "on_error", "force", "traceback", "repeats", "folds", "study")


def children(config: DictConfig) -> list[list[str]]:
    """What sets the jobs of one point apart: `repeats` seeds from `seed` on, and in each all `folds`."""
    seeds = [[f"seed={config.seed + i}"] for i in range(config.repeats)] if config.repeats > 1 else [[]]
    folds = [[f"data.folds={config.folds}", f"data.fold={i}"] for i in range(config.folds or 0)] or [[]]
    return [seed + fold for seed in seeds for fold in folds]


def freeze(config: DictConfig, point: int) -> Frozen:
    """The job of a composed configuration."""
    task = _effective(config.hydra.overrides.task)
    kept = {"mode": "RUN", "overrides": {"task": task}, "run": {"dir": config.hydra.run.dir}}
    kept |= {"runtime": {"choices": config.hydra.runtime.choices, "cwd": config.hydra.runtime.cwd}}
    kept |= {"job": {"name": config.hydra.job.name, "config_name": config.hydra.job.config_name}}
    HydraConfig.instance().cfg = config  # for values such as ${hydra:runtime.choices.model}
    plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    resolved = OmegaConf.to_container(plain, resolve=True, throw_on_missing=False)
    with open_dict(plain):
        plain.update(hydra=kept, repeats=1, folds=None, study=None)
    asked = {key: value for key, value in resolved.items() if key not in TERMS}  # type: ignore[union-attr]
    text = json.dumps(renames.original(asked), sort_keys=True, default=str)
    return Frozen(task, OmegaConf.to_yaml(plain), hashlib.sha256(text.encode()).hexdigest(), point=point)


def _effective(overrides: Sequence[str]) -> list[str]:
    """Those that a job has: of several values of a key the last one, and nothing that is the sweep's."""
    parser, found = OverridesParser.create(), dict[tuple[Any, ...], str]()
    for text in overrides:
        override = parser.parse_override(text)
        key = override.key_or_group, override.package, override.is_delete()
        if override.key_or_group.partition(".")[0] not in TERMS:
            found.pop(key, None)
            found[key] = text
    return list(found.values())


def named(jobs: list[Frozen], follow: Sequence[str]) -> list[Frozen]:
    """Each with the overrides for its name that not all have.

    Args:
        follow: keys that follow from others, and tell nothing more.
    """
    common = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs)) if len(jobs) > 1 else set()
    common |= {text for job in jobs for text in job.overrides if text.partition("=")[0] in follow}
    names = (" ".join(text for text in job.overrides if text not in common) for job in jobs)
    return [job._replace(name=name or job.name) for job, name in zip(jobs, names, strict=True)]


def returned(point: Point) -> JobReturn:
    result = JobReturn(overrides=point.overrides, status=JobStatus.COMPLETED)
    result.return_value = point.objective
    return result
