"""Private members of Optuna. Tested with optuna >=4.5,<6.

The library is imported when a search asks for it, so that a sweep without one starts without Optuna.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.errors import RunFailed

if TYPE_CHECKING:
    import optuna

TESTED = ">=4.5,<6"


def continued(study: optuna.Study, number: int) -> optuna.Trial:
    """The trial of this number as one that can suggest, report and be pruned again, also in another process.

    Raises:
        RunFailed: this version has no such member, and no Optuna has a public way.
    """
    import optuna

    trial = study.get_trials(deepcopy=False)[number]
    if not hasattr(trial, "_trial_id"):
        raise RunFailed(f"optuna {optuna.__version__} has no FrozenTrial._trial_id: a search needs optuna{TESTED}")
    return optuna.Trial(study, trial._trial_id)
