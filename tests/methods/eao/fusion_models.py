"""Small models of Everything at Once, and batches of tokens for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vatt import methods
from vatt.methods.eao.config import COMPARED, FusionConfig, LossConfig, ModelConfig

TOKENS = {"text": 4, "video": 3, "audio": 2}
FRAMES = 32  # of the spectrogram, 16 a token
EMPTY = {"text": 1, "video": 2, "audio": 0}  # rows without that modality
EQUAL = {f"{name}_weight": 1.0 for name in COMPARED}


def config(fusion: dict[str, Any] | None = None, **changes: Any) -> ModelConfig:
    given = {
        "video_embed_dim": 7,
        "text_embed_dim": 5,
        "projection_dim": 10,
        "davenet_widths": (4, 4, 4, 6, 8),
        "davenet_blocks": (1, 1, 1, 1),
        "fusion_params": FusionConfig(
            **{"embed_dim": 12, "num_heads": 3, "mlp_ratio": 2.0} | (fusion or {})
        ),
        "loss_config": LossConfig(**EQUAL),
    }
    return ModelConfig(**given | changes)


def built(cfg: ModelConfig, precision: str = "float32") -> Any:
    """Returns a model whose learned vectors are no zeros."""
    model = methods.named("eao").model(cfg, {}, precision)
    random = np.random.default_rng(1)
    for variable in model.variables:
        if variable.name in ("masking_token", "cls_token", "positions"):
            variable.assign(random.normal(size=variable.shape))
    return model


def batch(cfg: ModelConfig, rows: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    found = {
        "text": random.normal(size=(rows, TOKENS["text"], cfg.text_embed_dim)),
        "video": random.normal(size=(rows, TOKENS["video"], cfg.video_embed_dim)),
        "audio": random.normal(size=(rows, 40, FRAMES)),
    }
    for modality, count in {**TOKENS, "audio": FRAMES}.items():
        mask = np.ones((rows, count))
        mask[:, count // 2 :] = random.integers(0, 2, (rows, 1))
        mask[EMPTY[modality]] = 0
        found[f"{modality}_mask"] = mask
    arrays = {name: value.astype("float32") for name, value in found.items()}
    return arrays | {"audio_STFT_nframes": np.full(rows, -1, "int32")}
