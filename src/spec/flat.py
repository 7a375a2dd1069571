"""Version 1 of a spec: one flat dict with all fields of all modalities, as checkpoints of earlier releases hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MODALITIES = {"tokens": "text", "pairs": "text_pairs"}  # the others have kept their name

# of each modality beside what all have: field then -> field now
_INPUT = {
    "table": {"columns": "columns", "cardinalities": "cardinalities"},
    "image": {"levels": "levels", "crop": "crop"},
    "audio": {"levels": "levels", "crop": "crop", "sound": "log_mel"},
    "text": {"tokenizer": "tokenizer", "token_counts": "token_counts", "characters_per_token": "characters_per_token"},
    "series": {"season": "season", "differenced": "differenced"},
    "interactions": {
        "users": "users",
        "items": "items",
        "item_names": "item_names",
        "interactions": "packed",
        "rating_range": "rating_range",
    },
    "environment": {},
}
_INPUT["text_pairs"] = _INPUT["text"] | {"target_length": "target_length"}
_COMMON = {
    "input_shape": "shape",
    "input_mean": "mean",
    "input_std": "std",
    "average": "average",
    "feature_names": "feature_names",
}
_NUMBERS = {"regression", "rating"}  # tasks whose target is a number


def converted(values: Mapping[str, Any]) -> dict[str, Any]:
    """A version 1 dict as `DataSpec.to_dict` writes it now; fields that are missing get their default values."""
    kind = values["kind"]
    modality = "audio" if values.get("sound") else _MODALITIES.get(kind, kind)
    renamed = _COMMON | _INPUT.get(modality, {})
    inputs = {now: values[then] for then, now in renamed.items() if then in values}
    if environment := values.get("environment"):
        inputs |= {"id": environment["name"], "max_steps": environment["max_steps"], "copies": environment["copies"]}
    return {
        "version": 2,
        "name": values["name"],
        "tasks": list(values["tasks"]),
        "splits": dict(values["sizes"]),
        "modality": modality,
        "input": inputs,
        "target": _target(values),
        "train_fraction": values.get("train_fraction", 1.0),
        "sha256": values.get("sha256", ""),
    }


def _target(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Tell the form of the target by which fields have a value."""
    labels = {"names": values.get("class_names", ()), "counts": values.get("class_counts", ())}
    if values.get("environment"):
        return {"form": "actions"} | labels
    if boxes := values.get("boxes"):
        return {"form": "boxes", "mean_boxes": boxes["mean"], "most": boxes["most"]} | labels
    if values.get("horizon"):
        return {"form": "horizon", "steps": values["horizon"], "naive_errors": values["naive_errors"]}
    if labels["names"]:
        held_out = {"held_out_test": "unseen_classes", "held_out_val": "val_classes", "anomalies": "anomalies"}
        return {"form": "classes", **{now: values.get(then, ()) for now, then in held_out.items()}} | labels
    mean, std = values.get("target_mean", 0.0), values.get("target_std", 1.0)
    if (mean, std) != (0.0, 1.0) or _NUMBERS & set(values["tasks"]):
        return {"form": "number", "mean": mean, "std": std}
    return None
