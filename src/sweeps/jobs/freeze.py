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
from src.sweeps.jobs.ledger import JobSpec
from src.sweeps.jobs.trials import Trial

# how a sweep is run, not what it is; repeats and folds are in its jobs
SETTINGS = ("n_jobs", "jobs_per_gpu", "on_error", "force", "traceback", "repeats", "folds", "study")


def replicates(config: DictConfig) -> list[list[str]]:
    """Overrides that set the jobs of one trial apart: `repeats` seeds from `seed` on, and in each all `folds`."""
    seeds = [[f"seed={config.seed + i}"] for i in range(config.repeats)] if config.repeats > 1 else [[]]
    folds = [[f"data.folds={config.folds}", f"data.fold={i}"] for i in range(config.folds or 0)] or [[]]
    return [seed + fold for seed in seeds for fold in folds]


def freeze(config: DictConfig, trial: int) -> JobSpec:
    """Freeze the job of a composed configuration.

    Args:
        trial: number of the trial that the job belongs to.
    """
    task = _effective(config.hydra.overrides.task)
    kept = {"mode": "RUN", "overrides": {"task": task}, "run": {"dir": config.hydra.run.dir}}
    kept |= {"runtime": {"choices": config.hydra.runtime.choices, "cwd": config.hydra.runtime.cwd}}
    kept |= {"job": {"name": config.hydra.job.name, "config_name": config.hydra.job.config_name}}
    HydraConfig.instance().cfg = config  # type: ignore[assignment]  # for values such as ${hydra:runtime.choices.model}
    plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    resolved = OmegaConf.to_container(plain, resolve=True, throw_on_missing=False)
    with open_dict(plain):
        plain.update(hydra=kept, repeats=1, folds=None, study=None)
    asked = {str(key): value for key, value in resolved.items() if key not in SETTINGS}  # type: ignore[union-attr]
    text = json.dumps(renames.original(asked), sort_keys=True, default=str)
    return JobSpec(task, OmegaConf.to_yaml(plain), hashlib.sha256(text.encode()).hexdigest(), trial=trial)


def _effective(overrides: Sequence[str]) -> list[str]:
    """Overrides that a job has: of several values of a key the last one, and nothing that is the sweep's."""
    parser, found = OverridesParser.create(), dict[tuple[Any, ...], str]()
    for text in overrides:
        override = parser.parse_override(text)
        key = override.key_or_group, override.package, override.is_delete()
        if override.key_or_group.partition(".")[0] not in SETTINGS:
            found.pop(key, None)
            found[key] = text
    return list(found.values())


def add_names(jobs: list[JobSpec], follow: Sequence[str]) -> list[JobSpec]:
    """Name each job by the overrides that not all have.

    Args:
        follow: keys that follow from others, and tell nothing more.
    """
    common = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs)) if len(jobs) > 1 else set()
    common |= {text for job in jobs for text in job.overrides if text.partition("=")[0] in follow}
    names = (" ".join(text for text in job.overrides if text not in common) for job in jobs)
    return [job._replace(name=name or job.name) for job, name in zip(jobs, names, strict=True)]


def job_return(trial: Trial) -> JobReturn:
    """Result of a trial in the form that Hydra expects."""
    result = JobReturn(overrides=trial.overrides, status=JobStatus.COMPLETED)
    result.return_value = trial.objective
    return result
