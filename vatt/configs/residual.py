"""What configurations of networks of basic residual blocks have in common, on videos and sounds.

Classes here are given as the first base, so that their defaults count.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vatt.configs import base
from vatt.configs.base import Config, Count, Positive, UnitInterval

ENDPOINTS = ("stem", "layer1", "layer2", "layer3", "layer4")
Stages = Annotated[
    base.sequence(Count),
    Field(
        min_length=4,
        max_length=4,
        description="four whole numbers >= 1, one for each stage",
    ),
]


class Residual(Config):
    """A stem and four stages of blocks: how many blocks and channels each stage has."""

    final_endpoint: base.choice(*ENDPOINTS) = "layer4"
    blocks: Stages = (2, 2, 2, 2)
    widths: Stages = (64, 128, 256, 512)
    use_xreplica_bn: bool = True
    batch_norm_decay: UnitInterval = 0.9
    batch_norm_epsilon: Positive = 1e-5


class TinyResidual(Config):
    """Not published: trains on a CPU."""

    blocks: Stages = (1, 1, 1, 1)
    widths: Stages = (8, 16, 32, 64)
