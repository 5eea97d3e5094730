"""Floating-point operations of the transformer towers, counted from their configuration.

Matrix products only, a multiply-add counted as two; a training step counts three times the forward
pass (one forward, two backward).
"""

from __future__ import annotations

import math

from vatt import configs


def encoder(tokens: int, cfg: configs.base.Config) -> float:
    """Forward pass of one sequence of `tokens` through all layers of `cfg`."""
    inner = cfg.num_heads * cfg.d_kv
    feed_forward = 3 if cfg.activation == "geglu" else 2
    projections = 2 * tokens * cfg.d_model * (4 * inner + feed_forward * cfg.d_ff)
    attention = 4 * tokens * tokens * inner
    return float(cfg.num_layers * (projections + attention))


def kept_tokens(cfg: configs.base.Config, grid: tuple[int, ...], training: bool) -> int:
    """Tokens of one clip after DropToken, without the aggregation token."""
    tokens = math.prod(grid)
    if training and getattr(cfg, "random_patch_sampling", False):
        return int(cfg.patch_sampling_rate * tokens)
    return tokens


def video(cfg: configs.base.Config, shape: tuple[int, ...], training: bool = False) -> float:
    """One clip `[frames, height, width, channels]` through a ViT."""
    patch = (cfg.temporal_patch_size, cfg.spatial_patch_size, cfg.spatial_patch_size)
    grid = tuple(size // step for size, step in zip(shape[:3], patch, strict=True))
    tokens = kept_tokens(cfg, grid, training)
    return 2.0 * tokens * math.prod(patch) * shape[3] * cfg.d_model + encoder(tokens + 1, cfg)


def audio(cfg: configs.base.Config, shape: tuple[int, ...], training: bool = False) -> float:
    """One waveform `[samples, 1]` through a WaT."""
    size, stride = cfg.temporal_patch_size, cfg.temporal_patch_stride
    tokens = kept_tokens(cfg, (1 + (shape[0] - size) // stride,), training)
    return 2.0 * tokens * size * cfg.d_model + encoder(tokens + 1, cfg)


def text(cfg: configs.base.Config, words: int) -> float:
    """One sentence of `words` word ids through a T5 encoder."""
    tokens = words + int(cfg.use_agg_token)
    projection = 2.0 * tokens * cfg.d_embedding * (cfg.d_pre_proj or 0)
    if not hasattr(cfg, "num_layers"):
        return projection + 2.0 * tokens * (cfg.d_pre_proj or cfg.d_embedding) * cfg.d_model
    return projection + encoder(tokens + int(cfg.name.startswith("bert")), cfg)


def pretraining_step(
    backbones: configs.multimodal.BackboneConfig,
    shapes: dict[str, tuple[int, ...]],
    batch_size: int,
) -> float:
    """One step over `batch_size` clips; `shapes` per clip, text as `(candidates, words)`.

    Heads and loss are left out: they are thousandths of the towers.
    """
    candidates, words = shapes["text"]
    clip = video(backbones.resolve("video"), shapes["video"], training=True)
    clip += audio(backbones.resolve("audio"), shapes["audio"], training=True)
    clip += candidates * text(backbones.resolve("text"), words)
    return 3.0 * batch_size * clip
