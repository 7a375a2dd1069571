"""Configuration: the command line, conf/ and experiments/ become one checked configuration. Imports no torch."""

from src.config.cli import Command, version
from src.config.composition import compose
from src.config.resume import compose_saved, task_overrides
from src.config.validate import check

__all__ = ["Command", "check", "compose", "compose_saved", "task_overrides", "version"]
