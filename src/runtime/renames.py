"""Names of earlier releases and what they are now: checkpoints, runs and sweeps keep those that they were made with.

Public names (`src.models.CNN`) do not change when a file moves; what a configuration named before there were such names
is here. So are options that were called otherwise: the command line and recipes may name them so for one release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TARGETS = {
    "src.data.adding.Adding": "src.data.Adding",
    "src.data.audio.AudioFolder": "src.data.AudioFolder",
    "src.data.audio.SpokenDigits": "src.data.SpokenDigits",
    "src.data.audio.Tones": "src.data.Tones",
    "src.data.augment.Augment": "src.data.Augment",
    "src.data.boxaugment.BoxAugment": "src.data.BoxAugment",
    "src.data.coco.Coco": "src.data.Coco",
    "src.data.csv.Csv": "src.data.Csv",
    "src.data.driving.DrivingLog": "src.data.DrivingLog",
    "src.data.environment.Environment": "src.data.Environment",
    "src.data.folder.ImageFolder": "src.data.ImageFolder",
    "src.data.glyphs.Glyphs": "src.data.Glyphs",
    "src.data.hub.HubTexts": "src.data.HubTexts",
    "src.data.image_pairs.ImagePairs": "src.data.ImagePairs",
    "src.data.images.Digits": "src.data.Digits",
    "src.data.images.Torchvision": "src.data.Torchvision",
    "src.data.npz.Npz": "src.data.Npz",
    "src.data.pairs.Dates": "src.data.Dates",
    "src.data.pairs.Lines": "src.data.Lines",
    "src.data.ratings.RatingData": "src.data.InteractionData",
    "src.data.scenes.Scenes": "src.data.Scenes",
    "src.data.series.Series": "src.data.Series",
    "src.data.specaugment.SpecAugment": "src.data.SpecAugment",
    "src.data.squad.Squad": "src.data.Squad",
    "src.data.tabular.Embedded": "src.data.SklearnTable",
    "src.data.tabular.RandomLabels": "src.data.RandomLabels",
    "src.data.text.Corpus": "src.data.Corpus",
    "src.data.text.LabelledText": "src.data.TextClassification",
    "src.data.voc.Voc": "src.data.Voc",
    "src.models.autoencoder.Autoencoder": "src.models.Autoencoder",
    "src.models.Backbone": "src.models.TorchvisionClassifier",
    "src.models.backbone.Backbone": "src.models.TorchvisionClassifier",
    "src.models.bert.BERT": "src.models.BERT",
    "src.models.cnn.CNN": "src.models.CNN",
    "src.models.detector.Detector": "src.models.Detector",
    "src.models.dlinear.DLinear": "src.models.DLinear",
    "src.models.embedder.Embedder": "src.models.Embedder",
    "src.models.fnn.FNN": "src.models.FNN",
    "src.models.gan.GAN": "src.models.GAN",
    "src.models.gpt.GPT": "src.models.GPT",
    "src.models.policy.Policy": "src.models.Policy",
    "src.models.pretrained.Pretrained": "src.models.Pretrained",
    "src.models.recommender.Recommender": "src.models.Recommender",
    "src.models.rnn.RNN": "src.models.RNN",
    "src.models.t5.T5": "src.models.T5",
    "src.models.torchvision_detector.TorchvisionDetector": "src.models.TorchvisionDetector",
    "src.models.vae.VAE": "src.models.VAE",
    "src.models.vit.ViT": "src.models.ViT",
    "src.optimization.Muon": "src.training.muon.Muon",
    "src.optimization.cosine": "src.training.schedules.cosine",
    "src.optimization.none": "src.training.schedules.none",
    "src.optimization.one_cycle": "src.training.schedules.one_cycle",
    "src.optimization.plateau": "src.training.schedules.plateau",
    "src.optimization.step": "src.training.schedules.step",
    "src.sweeps.requirements.DataRequirements": "src.sweeps.data_requirements.study.DataRequirements",
    "src.training.averaging.WeightAveraging": "src.training.callbacks.averaging.WeightAveraging",
    "src.training.checkpoint.Checkpoint": "src.training.callbacks.checkpoint.Checkpoint",
    "src.training.stopping.EarlyStopping": "src.training.callbacks.stopping.EarlyStopping",
}
# of a command: keys of its configuration, root keys and whole paths
KEYS: dict[str, dict[str, str]] = {
    "train": {
        "again": "force",
        "pictures": "log_images",
        "predict": "show_predictions",
        "texts": "log_texts",
    },
    "predict": {
        "data.part": "data.split",
        "draw": "num_samples",
        "label": "class",
        "least_score": "score_threshold",
        "top": "top_n",
    },
    "evaluate": {"part": "split"},
    "runs": {"place": "path"},
}
_AGENT = {"discount": "gamma", "max_gradient_norm": "max_grad_norm"}
_PPO = {"clip": "clip_range", "entropy_weight": "ent_coef", "passes": "n_epochs", "value_weight": "vf_coef"}
_DQN = {"target_every": "target_update_interval", "updates": "gradient_steps", "warmup": "learning_starts"}
# of a target, by its name of today, or by the beginning of one that ends in a dot: options that an earlier release
# called otherwise, and what they are called now
OPTIONS: dict[str, dict[str, str]] = {
    "src.data.": {"unseen_classes": "held_out_classes"},
    "src.models.Policy": _AGENT | _PPO | _DQN,
    "src.models.PPO": _AGENT | _PPO,
    "src.models.DQN": _AGENT | _DQN,
}
# of modules that sweeps of an earlier release have their jobs forked with
MODULES = {"src.experiment": "src.experiment.run", "src.reports.figures": "src.plots.curves"}
# options that nodes of a target listed once whether they concerned them or not, as they were by default
LISTED: dict[str, dict[str, Any]] = {
    "src.tasks.make_task": {
        "class_weights": None,
        "focal_gamma": 2.0,
        "huber_delta": 1.0,
        "label_smoothing": 0.0,
        "margin": 0.3,
        "mask_fraction": 0.15,
        "negatives": 0,
        "scale": 16.0,
        "temperature": 0.1,
    },
}
LATER = ("callbacks",)  # root keys of training that came later: empty they change nothing


def target(name: str) -> str:
    """Today's `_target_` of one that an earlier release wrote."""
    return TARGETS.get(name, name)


def keys(command: str) -> dict[str, str]:
    """Former and present names of the keys of a command's configuration."""
    return KEYS.get(command, {})


def options(of: Any) -> dict[str, str]:
    """Former and present names of a target's options."""
    name = target(str(of))
    found = (
        names for known, names in OPTIONS.items() if name == known or (known[-1] == "." and name.startswith(known))
    )
    return {old: new for names in found for old, new in names.items()}


def renamed(saved: Any, command: str | None = None) -> Any:
    """A saved configuration, or any part of one, in today's names: those of targets and their options.

    Args:
        command: whose configuration it is, where it is a whole one; the keys of its root are renamed too.
    """
    if isinstance(saved, list):
        return [renamed(value) for value in saved]
    if not isinstance(saved, dict):
        return saved
    today = target(str(saved.get("_target_")))
    names = keys(command) if command else options(today)
    node = {names.get(key, key): renamed(value) for key, value in saved.items()}
    return node | ({"_target_": today} if "_target_" in saved else {})


def parameters(params: Mapping[str, str]) -> dict[str, str]:
    """A training run's parameters, flat as MLflow has them (`model.dropout`), in today's names.

    Runs of before and after a rename are compared by these.
    """
    targets = {key.removesuffix("._target_"): value for key, value in params.items() if key.endswith("._target_")}
    found = {}
    for key, value in params.items():
        node, _, option = key.rpartition(".")
        name = keys("train").get(key, key)
        if option == "_target_":
            value = target(value)
        elif node in targets:
            option = options(targets[node]).get(option, option)
            name = f"{node}.{option}"
        found[name] = value
    return {name: value for name, value in found.items() if not (name in LATER and value == "{}")}


def original(config: Mapping[str, Any]) -> dict[str, Any]:
    """A training configuration as the first release wrote it, of which hashes are made: those of older runs stay what
    they are, so that a run is known again.
    """
    before = {new: old for old, new in keys("train").items()}
    named = renamed(dict(config), "train").items()
    return {before.get(key, key): _original(value) for key, value in named if value or key not in LATER}


def _original(value: Any) -> Any:
    if isinstance(value, list):
        return [_original(item) for item in value]
    if not isinstance(value, dict):
        return value
    before = {new: old for old, new in options(value.get("_target_")).items()}
    node = LISTED.get(str(value.get("_target_")), {}) | {before.get(k, k): _original(v) for k, v in value.items()}
    return node | ({"_target_": _FIRST.get(value["_target_"], value["_target_"])} if "_target_" in value else {})


_FIRST: dict[str, str] = {}
for _old, _new in TARGETS.items():
    _FIRST.setdefault(_new, _old)
