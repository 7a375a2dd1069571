"""Names of earlier releases and what they are now: checkpoints, runs and sweeps keep those that they were made with.

Public names (`src.models.CNN`) do not change when a file moves; what a configuration named before there were such names
is here.
"""

from __future__ import annotations

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
    "src.data.ratings.RatingData": "src.data.RatingData",
    "src.data.scenes.Scenes": "src.data.Scenes",
    "src.data.series.Series": "src.data.Series",
    "src.data.specaugment.SpecAugment": "src.data.SpecAugment",
    "src.data.squad.Squad": "src.data.Squad",
    "src.data.tabular.Embedded": "src.data.Embedded",
    "src.data.tabular.RandomLabels": "src.data.RandomLabels",
    "src.data.text.Corpus": "src.data.Corpus",
    "src.data.text.LabelledText": "src.data.LabelledText",
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
# of a target, by its name of today: options that an earlier release called otherwise, and what they are called now
OPTIONS: dict[str, dict[str, str]] = {
    "src.models.Policy": {
        "clip": "clip_range",
        "discount": "gamma",
        "entropy_weight": "ent_coef",
        "max_gradient_norm": "max_grad_norm",
        "passes": "n_epochs",
        "target_every": "target_update_interval",
        "updates": "gradient_steps",
        "value_weight": "vf_coef",
        "warmup": "learning_starts",
    },
}


def target(name: str) -> str:
    """Today's `_target_` of one that an earlier release wrote."""
    return TARGETS.get(name, name)


def renamed(saved: Any) -> Any:
    """A saved configuration, or any part of one, with targets and their options in today's names."""
    if isinstance(saved, list):
        return [renamed(value) for value in saved]
    if not isinstance(saved, dict):
        return saved
    today = target(str(saved.get("_target_")))
    options = OPTIONS.get(today, {})
    node = {options.get(key, key): renamed(value) for key, value in saved.items()}
    return node | ({"_target_": today} if "_target_" in saved else {})
