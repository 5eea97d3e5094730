"""Small backbones and a batch for them, for tests of models.

config = configs.registry.backbone("vit_tiny", **small_models.VIDEO)
layer(small_models.inputs()["video"])
"""

from __future__ import annotations

import numpy as np

SHAPES = {"video": (4, 4, 16, 16, 3), "audio": (4, 512, 1), "text": (8, 6)}
ENCODER = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 32}
VIDEO = {
    **ENCODER,
    "temporal_patch_size": 2,
    "spatial_patch_size": 4,
    "max_temporal_buckets": 2,
    "max_vertical_buckets": 4,
    "max_horizontal_buckets": 4,
}
AUDIO = {
    **ENCODER,
    "temporal_patch_size": 32,
    "temporal_patch_stride": 32,
    "max_temporal_buckets": 16,
}
TEXT = {**ENCODER, "vocab_size": 40, "d_embedding": 12, "d_pre_proj": 16}


def inputs() -> dict[str, np.ndarray]:
    """Returns a batch of four clips, two rows of text for each."""
    random = np.random.default_rng(0)
    return {
        "video": random.uniform(size=SHAPES["video"]).astype("float32"),
        "audio": random.normal(size=SHAPES["audio"]).astype("float32"),
        "text": random.integers(0, 40, SHAPES["text"]).astype("int32"),
    }
