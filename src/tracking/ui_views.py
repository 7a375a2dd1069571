"""Views of our runs in MLflow's UI: its addresses, and a saved view with the metrics that matter.

On its own the UI opens in a mode for other work, which hides parameters and metrics, shows no metric in the table of
runs, and puts the charts in alphabetical order.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

KEY = "labbook"
TAG = f"mlflow.sharedViewState.{KEY}"
MODE = "workflowType=machine_learning"
SECTIONS = ("val", "train", "test", "baseline", "cost", "Model metrics", "System metrics")
METRICS = (
    *("accuracy", "auroc", "average_precision", "bits_per_character", "bleu", "chrf", "exact_match", "f1", "loss"),
    *("mae", "mase", "perplexity", "r2", "rmse", "mse", "psnr", "negative_elbo", "reconstruction", "kl"),
    *("ndcg_10", "hit_rate_10", "recall_10", "mrr", "map", "map50", "eer", "tar_at_1_percent", "recall_at_1"),
    *("return", "return_std", "length"),
    *("frechet", "coverage", "class_entropy", "classifier_accuracy", "diversity", "duplicates"),
)
# the UI leaves out those that no run has
COLUMNS = (
    *(f"test/{name}" for name in ("accuracy", "auroc", "rmse", "r2")),
    *(
        f"val/{name}_best"
        for name in ("accuracy", "f1", "loss", "frechet", "rmse", "ndcg_10", "map50", "eer", "return")
    ),
)


def state() -> dict[str, Any]:
    """The UI's own state for the runs page; what is missing here keeps its default, charts are added as usual."""
    sections = [
        {
            "uuid": name,
            "name": name,
            "display": name != "System metrics",
            "isReordered": False,
            "deleted": False,
            "isGenerated": True,
        }
        for name in SECTIONS
    ]
    # a curve of the best value so far says little beside the curve of the values
    hidden = [
        {
            "uuid": name,
            "type": "LINE",
            "metricKey": f"val/{name}_best",
            "metricSectionId": "val",
            "isGenerated": True,
            "deleted": True,
        }
        for name in METRICS
    ]
    return {
        "selectedColumns": ["attributes.`Dataset`", *(f"metrics.`{name}`" for name in COLUMNS)],
        "compareRunCharts": hidden,
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }


def save(client: MlflowClient, experiment: Experiment) -> None:
    """Adds the view to an experiment (under `Views` in the UI); one that is there stays as the user left it."""
    if TAG in experiment.tags:
        return
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 (not before it is needed: MLflow takes two seconds)

    now = int(time.time() * 1000)
    view = {"name": KEY, "createdAt": now, "updatedAt": now, "state": _deflated(state())}
    with contextlib.suppress(MlflowException):  # nobody needs it in order to train: a server may refuse it
        client.set_experiment_tag(experiment.experiment_id, TAG, _compact(view))


def _compact(value: object) -> str:
    """Write as JSON without a blank."""
    return json.dumps(value, separators=(",", ":"))


def _deflated(value: object) -> str:
    """Pack a long state as the UI does: a tag of an experiment holds 5,000 characters."""
    return f"deflate;{base64.b64encode(zlib.compress(_compact(value).encode(), 9)).decode()}"


def runs_page(experiment_id: str, charts: bool = False) -> str:
    """Address, from `#` on, of an experiment's table of runs or of its charts."""
    mode = f"{MODE}&compareRunsMode=CHART" if charts else MODE
    return f"#/experiments/{experiment_id}/runs?{mode}&viewStateShareKey={KEY}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Address, from `#` on, of one run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{MODE}"
