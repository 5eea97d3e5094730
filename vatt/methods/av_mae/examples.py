"""What AV-MAE is trained on: the frames and the sound of a clip, or one of them."""

from __future__ import annotations

from vatt.data.examples import Clips
from vatt.methods.av_mae.config import Pretrain


def build(cfg: Pretrain) -> Clips:
    """Returns the examples of a run."""
    return Clips(cfg.train.input, cfg.model.modalities)
