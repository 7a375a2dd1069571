"""Datasets by modality. Their public names are stable: configurations say `_target_: src.data.Csv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.runtime import lazy

if TYPE_CHECKING:
    from src.data.audio.datasets import AudioFolder, SpokenDigits, Tones
    from src.data.audio.specaugment import SpecAugment
    from src.data.boxes.augment import BoxAugment
    from src.data.boxes.coco import Coco
    from src.data.boxes.scenes import Scenes
    from src.data.boxes.voc import Voc
    from src.data.core.module import DataModule
    from src.data.environments.episodes import Environment
    from src.data.images.augment import Augment
    from src.data.images.classic import Digits, Torchvision
    from src.data.images.driving import DrivingLog
    from src.data.images.folder import ImageFolder
    from src.data.images.glyphs import Glyphs
    from src.data.images.pairs import ImagePairs
    from src.data.ratings.datasets import InteractionData
    from src.data.series.adding import Adding
    from src.data.series.dataset import Series
    from src.data.tables.csv import Csv
    from src.data.tables.npz import Npz
    from src.data.tables.sklearn import RandomLabels, SklearnTable
    from src.data.text.classification import TextClassification
    from src.data.text.corpus import Corpus
    from src.data.text.huggingface import HubTexts
    from src.data.text.pairs import Dates, Lines
    from src.data.text.squad import Squad

_PLACES = {
    "Adding": "src.data.series.adding",
    "AudioFolder": "src.data.audio.datasets",
    "Augment": "src.data.images.augment",
    "BoxAugment": "src.data.boxes.augment",
    "Coco": "src.data.boxes.coco",
    "Corpus": "src.data.text.corpus",
    "Csv": "src.data.tables.csv",
    "DataModule": "src.data.core.module",
    "Dates": "src.data.text.pairs",
    "Digits": "src.data.images.classic",
    "DrivingLog": "src.data.images.driving",
    "SklearnTable": "src.data.tables.sklearn",
    "Environment": "src.data.environments.episodes",
    "Glyphs": "src.data.images.glyphs",
    "HubTexts": "src.data.text.huggingface",
    "ImageFolder": "src.data.images.folder",
    "ImagePairs": "src.data.images.pairs",
    "TextClassification": "src.data.text.classification",
    "Lines": "src.data.text.pairs",
    "Npz": "src.data.tables.npz",
    "RandomLabels": "src.data.tables.sklearn",
    "InteractionData": "src.data.ratings.datasets",
    "Scenes": "src.data.boxes.scenes",
    "Series": "src.data.series.dataset",
    "SpecAugment": "src.data.audio.specaugment",
    "SpokenDigits": "src.data.audio.datasets",
    "Squad": "src.data.text.squad",
    "Tones": "src.data.audio.datasets",
    "Torchvision": "src.data.images.classic",
    "Voc": "src.data.boxes.voc",
}
__all__ = [
    "Adding",
    "AudioFolder",
    "Augment",
    "BoxAugment",
    "Coco",
    "Corpus",
    "Csv",
    "DataModule",
    "Dates",
    "Digits",
    "DrivingLog",
    "Environment",
    "Glyphs",
    "HubTexts",
    "ImageFolder",
    "ImagePairs",
    "InteractionData",
    "Lines",
    "Npz",
    "RandomLabels",
    "Scenes",
    "Series",
    "SklearnTable",
    "SpecAugment",
    "SpokenDigits",
    "Squad",
    "TextClassification",
    "Tones",
    "Torchvision",
    "Voc",
]

__getattr__ = lazy.names(__name__, _PLACES)
