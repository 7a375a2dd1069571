"""Share of the objective's variance that each parameter explains: fANOVA (Hutter et al. 2014), by Optuna."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Collection, Mapping, Sequence

Values = Mapping[str, Sequence[float] | Sequence[str]]  # of each parameter, one a trial

LEAST = 8  # trials that a forest can learn anything from
MISSING = "importance of the parameters is left out: it needs the extra search: pip install 'labbook[search]'"


def available() -> bool:
    """True if Optuna is installed."""
    return importlib.util.find_spec("optuna") is not None


def enough(values: Values, objectives: Sequence[float]) -> bool:
    """True if there is something to tell apart, and enough trials to learn it from."""
    return len(values) > 1 and len(objectives) >= LEAST and len(set(objectives)) > 1


def shares(values: Values, log: Collection[str], objectives: Sequence[float]) -> dict[str, float]:
    """Each parameter's share, all together 1, the largest first.

    Args:
        log: parameters whose logarithm counts.
    """
    import optuna  # noqa: PLC0415 (an extra)
    from optuna.distributions import (  # noqa: PLC0415 (as above)
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
    )

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spans: dict[str, BaseDistribution] = {}
    for name, column in values.items():
        if isinstance(column[0], str):
            spans[name] = CategoricalDistribution(sorted(map(str, set(column))))
        else:
            numbers = [float(value) for value in column]
            spans[name] = FloatDistribution(min(numbers), max(numbers), log=name in log)
    study = optuna.create_study()
    for number, objective in enumerate(objectives):
        params = {name: column[number] for name, column in values.items()}
        study.add_trial(optuna.create_trial(params=params, distributions=spans, value=objective))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself experimental
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}
