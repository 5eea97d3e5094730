"""Small masked autoencoders, and a batch for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vatt import methods
from vatt.methods.av_mae.config import DecoderConfig, ModelConfig

SHAPES = {"video": (4, 16, 16, 3), "audio": (24, 8, 1)}  # 2 x 4 x 4 and 6 x 2 tokens
SIZES = {"d_model": 16, "num_heads": 2, "d_kv": 8, "d_ff": 24, "num_layers": 3}


def config(**changes: Any) -> ModelConfig:
    given = {
        "temporal_patch_size": 2,
        "spatial_patch_size": 4,
        "audio_temporal_patch_size": 4,
        "audio_spectral_patch_size": 4,
        "fusion_layers": 1,
        "video_mask": 0.75,
        "audio_mask": 0.5,
        "decoder_config": DecoderConfig(d_model=12, num_heads=2, d_kv=6, d_ff=20, num_layers=1),
    }
    return ModelConfig(**SIZES | given | changes)


def built(cfg: ModelConfig, precision: str = "float32") -> Any:
    """Returns a model whose weights are no zeros."""
    shapes = {modality: SHAPES[modality] for modality in cfg.modalities}
    model = methods.named("av_mae").model(cfg, shapes, precision)
    random = np.random.default_rng(1)
    for variable in model.variables:
        if not np.asarray(variable).any():
            variable.assign(random.normal(size=variable.shape) * 0.3)
    return model


def batch(rows: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {m: random.normal(size=(rows, *s)).astype("float32") for m, s in SHAPES.items()}
