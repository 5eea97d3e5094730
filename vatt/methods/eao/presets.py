"""The published runs of Everything at Once, and one that trains on a CPU.

`ABLATIONS` has one for each published configuration that differs from the main one. Steps are
counted from the published batches, of 10 clips of each of 224 videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vatt.configs import experiment, tokens
from vatt.methods.eao.config import (
    BASELINE,
    PER_MODALITY,
    TV_ONLY,
    FusionConfig,
    LossConfig,
    ModelConfig,
    Pretrain,
)

VIDEOS = 1_166_000  # of HowTo100M, by the name of the published list: about
EPOCHS, CLIPS = 15, 10
COMPARISONS = ("tv", "ta", "va", "t_va", "v_ta", "a_tv")


def losses(others: float = 0.1, pairs: bool = True) -> LossConfig:
    """Returns weights: 1 of text with video, `others` of the rest, that of `pairs` perhaps none."""
    weights = {name: 1.0 if name == "tv" else others for name in COMPARISONS[: 6 if pairs else 3]}
    return LossConfig(**{f"{name}_weight": weight for name, weight in weights.items()})


def optimizer(rate: float, epochs: int, steps_per_epoch: int) -> experiment.FlaxAdamOptimizer:
    """Returns the published one: each epoch has nine tenths of the rate of the one before.

    PyTorch adds epsilon where Flax does, to the root of the corrected moment.
    """
    schedule = experiment.MultiStepLearningRate(
        learning_rate_base=rate,
        total_steps=epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        milestones=tuple(range(1, epochs)),
        gamma=0.9,
    )
    return experiment.FlaxAdamOptimizer(weight_decay=0.0, beta_2=0.999, learning_rate=schedule)


def published(
    fusion: FusionConfig | None = None,
    loss: LossConfig | None = None,
    model: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    videos: int = 224,
) -> Pretrain:
    """Returns the published run on HowTo100M, changed.

    Args:
      fusion: the transformer, by default one block of 4096 with 64 heads.
      loss: by default all comparisons.
      model: other fields of the model.
      given: fields of the tokens, in training and evaluation.
      videos: of a batch.
    """
    given = dict(given or {})
    clips = given.pop("n_clips", CLIPS)
    misaligned = given.pop("flag_text_audio_misaligned", True)
    training = tokens.Tokens(
        **given, narrated=True, n_clips=clips, flag_text_audio_misaligned=misaligned
    )
    evaluation = tokens.TokenEvaluation(
        name=("msrvtt",),
        batch_size=8,
        num_windows_test=1,
        tokens=tokens.Tokens(**given, n_video_tokens=48, num_audio_stft_frames=3072),
    )
    data = tokens.TokenPretrain(name="howto100m", batch_size=videos * clips, tokens=training)
    return Pretrain(
        model=ModelConfig(
            fusion_params=fusion or main(), loss_config=loss or losses(), **(model or {})
        ),
        train=experiment.TrainConfig(
            input=data,
            optimizer=optimizer(5e-5, EPOCHS, VIDEOS // videos),
            max_checkpoints=3,
        ),
        eval=experiment.EvalConfig(input=evaluation),
        precision="mixed_bfloat16",
    )


def main(**changes: Any) -> FusionConfig:
    """Returns the published transformer, changed."""
    return FusionConfig(**{"embed_dim": 4096, "num_heads": 64, "mlp_ratio": 1.0} | changes)


def no_pairs(**changes: Any) -> Pretrain:
    """Returns a run in which pairs of modalities are not compared."""
    return published(loss=losses(pairs=False), **changes)


PRESETS = {
    "eao": published,
    "eao_s3d": lambda: published(
        model={"video_embed_dim": 1024},
        given={"features_2d": None, "features_3d": "s3d", "video_embed_dim": 1024},
    ),
    "eao_clip": lambda: published(
        model={"video_embed_dim": 512, "text_embed_dim": 512, "use_clip_text_model": True},
        given={"features_2d": "clip", "features_3d": None, "video_embed_dim": 512}
        | {"text": "clip", "text_embed_dim": 512, "merges": "bpe_simple_vocab_16e6.txt.gz"},
    ),
    "eao_tv": lambda: no_pairs(model={"type": TV_ONLY}),
}
ABLATIONS = {
    "eao_shared_final_proj": lambda: published(model={"individual_projections": False}),
    "eao_cls_token": lambda: published(
        main(use_cls_token=True), model={"individual_projections": False}
    ),
    # Published as "2blocks_16heads_1024hiden": it has four.
    "eao_4blocks_16heads_1024": lambda: published(main(embed_dim=1024, depth=4, num_heads=16)),
    "eao_2blocks_32heads_2048": lambda: published(main(embed_dim=2048, depth=2, num_heads=32)),
    "eao_2blocks_64heads_4096_112_10bs": lambda: published(main(depth=2), videos=112),
    "eao_2blocks_64heads_4096_224_5bs": lambda: published(main(depth=2), given={"n_clips": 5}),
    "eao_aligned_audio_text": lambda: published(
        loss=losses(1.0), given={"flag_text_audio_misaligned": False}
    ),
    "eao_disentangled_equal_weights": lambda: published(loss=losses(1.0)),
    "eao_fusion_no_comb": lambda: no_pairs(model={"cross_modal": False}),
    "eao_no_transformers": lambda: no_pairs(fusion=main(depth=0), model={"cross_modal": False}),
    "eao_transformer_per_modality": lambda: no_pairs(model={"type": PER_MODALITY}),
    # Without a published configuration: the defaults of its class.
    "avlnet_baseline": lambda: no_pairs(
        model={"type": BASELINE, "model_name": "avlnet", "projection_dim": 4096}
    ),
}


def tiny() -> Pretrain:
    """Returns a run that trains on a CPU; not published."""
    given = {
        "features_2d": "vatt",
        "features_3d": None,
        "video_embed_dim": 96,
        "n_video_tokens": 8,
        "num_audio_stft_frames": 272,
        "text_embed_dim": 64,
        "max_words": 16,
    }
    model = ModelConfig(
        model_name="eao_tiny",
        video_embed_dim=96,
        text_embed_dim=64,
        projection_dim=96,
        davenet_v2=False,
        davenet_widths=(16, 16, 24, 32, 48),
        davenet_blocks=(1, 1, 1, 1),
        fusion_params=FusionConfig(embed_dim=64, num_heads=4, mlp_ratio=2.0),
        loss_config=losses(1.0),
    )
    rate = experiment.CosineDecayLearningRate(
        learning_rate_base=1e-3, warmup_steps=60, total_steps=2_000
    )
    data = tokens.TokenPretrain(
        name="toy_howto_tokens", batch_size=32, tokens=tokens.Tokens(**given)
    )
    seen = tokens.TokenEvaluation(
        name=("toy_retrieval_tokens",), num_windows_test=1, tokens=tokens.Tokens(**given)
    )
    return Pretrain(
        model=model,
        train=experiment.TrainConfig(
            input=data, optimizer=experiment.AdamOptimizer(learning_rate=rate)
        ),
        eval=experiment.EvalConfig(input=seen),
    )
