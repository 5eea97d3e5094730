"""What a pretraining method's model configuration says to those that know no method."""

from __future__ import annotations

from vatt.configs import base
from vatt.configs.backbones import Backbone
from vatt.configs.problems import ConfigError, Problems


class PretrainModel(base.Config):
    """A model for pretraining; every method has subclasses of its own.

    `model_name` is the first part of every variable's path, so checkpoints know it.
    """

    model_name: str = ""

    def backbones(self) -> dict[str, Backbone | ConfigError]:
        """Returns the backbones by the path where each is configured.

        One that cannot be made stands there as the error that says why.
        """
        return {}

    def problems(self) -> Problems:
        """Yields what does not fit together beside the backbones (heads, losses)."""
        yield from ()
