"""Contrastive losses between modalities: NCE and MIL-NCE in two published forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import SerializeAsAny

from vatt.configs import base
from vatt.configs.base import NonNegative, Positive


class BaseLossConfig(base.Config):
    """A loss; `name` says which one (asymmetric_nce, symmetric_nce).

    `mask_normalization`: "global" divides by the number of valid clips of the whole batch;
    "replica" by that of each replica's share, as published, which is not the masked mean when the
    shares differ.
    """

    variant_key: ClassVar[str | None] = "name"

    name: str = ""
    loss_weight: NonNegative = 1.0
    mask_normalization: base.choice("global", "replica") = "global"

    @classmethod
    def variants(cls) -> Mapping[str, type[base.Config]]:
        """Returns the losses that can be put into a stack."""
        return {"asymmetric_nce": AsymmetricNCE, "symmetric_nce": SymmetricNCE}


class SymmetricNCE(BaseLossConfig):
    name: base.choice("symmetric_nce") = "symmetric_nce"
    temperature: Positive = 0.07
    vid_txt_weight: NonNegative = 1.0
    vid_aud_weight: NonNegative = 1.0
    aud_txt_weight: NonNegative = 0.0


class AsymmetricNCE(SymmetricNCE):
    name: base.choice("asymmetric_nce") = "asymmetric_nce"


class LossStack(base.Config):
    stack_of: ClassVar[type[base.Config] | None] = BaseLossConfig

    bridge: base.sequence(SerializeAsAny[BaseLossConfig]) = ()
