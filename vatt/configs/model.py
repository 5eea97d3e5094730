"""What a pretraining method's model configuration says to those that know no method."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from vatt.configs import backbones, base, dataset
from vatt.configs.backbones import Backbone
from vatt.configs.base import Count, Positive, Rate, UnitInterval
from vatt.configs.problems import ConfigError, Problems


class PretrainModel(base.Config):
    """A model for pretraining; every method has subclasses of its own.

    `model_name` is the first part of every variable's path, so checkpoints know it.
    `required_modalities`: what every set that it is trained on must have.
    """

    required_modalities: ClassVar[tuple[str, ...]] = ()

    model_name: str = ""

    def backbones(self) -> dict[str, Backbone | ConfigError]:
        """Returns the backbones by the path where each is configured.

        One that cannot be made stands there as the error that says why.
        """
        return {}

    def problems(self) -> Problems:
        """Yields what does not fit together beside the backbones (heads, losses)."""
        yield from ()

    def clip_problems(self, path: str, data: dataset.Dataset) -> Problems:
        """Yields what clips do not fit beside the backbones; `path` is that of `data`."""
        yield from ()


class TwoTowers(PretrainModel):
    """A model that compares video with one other modality, by two backbones of one modality each.

    Backbones are named; `*_model_kwargs` change fields of the named one.
    """

    other: ClassVar[str] = "audio"

    video_backbone: str = ""
    video_model_kwargs: dict[str, Any] = Field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, str]:
        """What the model takes, video first."""
        return ("video", self.other)

    @property
    def required_modalities(self) -> tuple[str, ...]:
        """What every set that it is trained on must have."""
        return self.modalities

    def resolve(self, modality: str) -> Backbone:
        """Returns the configuration of the backbone of a modality, kwargs applied.

        Raises:
          ConfigError: unknown backbone, or kwargs that it does not have.
        """
        fields = (f"{modality}_backbone", f"{modality}_model_kwargs")
        name, kwargs = (getattr(self, field) for field in fields)
        return backbones.build(name, kwargs, *(f"model_config.{f}" for f in fields), (modality,))

    def backbones(self) -> dict[str, Backbone | ConfigError]:
        """Returns the backbones by the path where each is configured."""
        found: dict[str, Backbone | ConfigError] = {}
        for modality in self.modalities:
            path = f"model_config.{modality}_backbone"
            try:
                found[path] = self.resolve(modality)
            except ConfigError as error:
                found[path] = error
        return found


class ProjectionConfig(base.Config):
    """A projection head: dropout, dense, batch norm, ReLU, dropout, dense, length 1.

    Without `use_mlp` one dense layer; without `norm_feat` embeddings keep their length.
    """

    d_model: Count = 256
    d_hidden: Count = 512
    use_mlp: bool = True
    norm_feat: bool = True
    dropout_rate: Rate = 0.3
    batch_norm_decay: UnitInterval = 0.9
    batch_norm_epsilon: Positive = 1e-5
    use_xreplica_bn: bool = True
