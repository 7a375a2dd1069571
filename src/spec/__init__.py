"""DataSpec: all that a model may know about its data, as plain values that travel in every checkpoint."""

from src.spec.audio import AudioSpec, LogMelSpec
from src.spec.base import DataSpec
from src.spec.environment import EnvironmentSpec
from src.spec.image import ImageSpec
from src.spec.inputs import InputSpec
from src.spec.interactions import InteractionsSpec
from src.spec.series import SeriesSpec
from src.spec.table import ColumnSchema, TableSpec
from src.spec.targets import Actions, Boxes, Classes, Horizon, Labels, Number, TargetSpec
from src.spec.text import TextPairSpec, TextSpec, TokenizedSpec

__all__ = [
    "Actions",
    "AudioSpec",
    "Boxes",
    "Classes",
    "ColumnSchema",
    "DataSpec",
    "EnvironmentSpec",
    "Horizon",
    "ImageSpec",
    "InputSpec",
    "InteractionsSpec",
    "Labels",
    "LogMelSpec",
    "Number",
    "SeriesSpec",
    "TableSpec",
    "TargetSpec",
    "TextPairSpec",
    "TextSpec",
    "TokenizedSpec",
]
