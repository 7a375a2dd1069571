"""Configuration: the command line, conf/ and experiments/ become one checked configuration. Imports no torch."""

from src.config.cli import Command
from src.config.composition import compose
from src.config.resume import compose_saved, task_overrides
from src.config.validate import check
from src.runtime.project import version

__all__ = ["Command", "check", "compose", "compose_saved", "task_overrides", "version"]
