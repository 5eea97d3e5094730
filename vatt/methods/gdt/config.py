"""GDT's configuration: backbones, head and hypothesis of a model, clips, presets of experiments.

Names and defaults are those of the published scripts where they have any.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, SerializeAsAny

from vatt.configs import base, dataset, experiment
from vatt.configs.base import Count, Positive
from vatt.configs.model import ProjectionConfig, TwoTowers
from vatt.configs.problems import ConfigError, Problems
from vatt.methods.gdt import hypotheses

PATH = "model_config.hypothesis"


class ModelConfig(TwoTowers):
    """Backbones, heads and objective.

    `hypothesis`: number or name, see `hypotheses.TABLE`. `nce_t`: temperature. `negatives`:
    "distinct" compares with each clip of other replicas once in a term, "published" with some of
    them two or three times (`objective.HypothesisLoss`).
    """

    model_name: str = "gdt"
    video_backbone: str = "r2plus1d_18"
    hypothesis: Count | str = 1
    nce_t: Positive = 0.07
    negatives: base.choice("distinct", "published") = "distinct"
    head_config: ProjectionConfig = Field(default_factory=ProjectionConfig)

    def problems(self) -> Problems:
        """Yields a hypothesis that is none."""
        try:
            hypotheses.of(self.hypothesis, PATH)
        except ConfigError as error:
            yield from error.problems

    def terms(self) -> hypotheses.Hypothesis:
        """Returns the hypothesis.

        Raises:
          ConfigError: there is none of that number or name.
        """
        return hypotheses.of(self.hypothesis, PATH)


class SoundModel(ModelConfig):
    """Video and sound (published: `av_gdt`)."""

    audio_backbone: str = "resnet9"
    audio_model_kwargs: dict[str, Any] = Field(default_factory=dict)


class CaptionModel(ModelConfig):
    """Video and captions (published: `vid_text_gdt`)."""

    other: ClassVar[str] = "text"

    text_backbone: str = "linear"
    text_model_kwargs: dict[str, Any] = Field(default_factory=dict)

    @property
    def vocab_size(self) -> int:
        """Rows of the word embedding."""
        return self.resolve("text").vocab_size

    @property
    def word_embeddings(self) -> str | None:
        """Pretrained word embedding, by name or path."""
        return self.resolve("text").word_embeddings


class CaptionInput(dataset.Pretrain):
    """Clips around captions. `caption_seconds`: the least time that a caption is taken for."""

    max_num_words: Count = 20
    caption_seconds: Positive = 4.0


class Pretrain(experiment.Pretrain):
    """A pretraining run of GDT."""

    method: ClassVar[str] = "gdt"

    model: SerializeAsAny[ModelConfig] = Field(default_factory=SoundModel, alias="model_config")


# Presets ---------------------------------------------------------------------------------------

EPOCH = 470  # steps: 240,000 videos of Kinetics-400, 512 at a time
# What is seen and heard of a clip, in training and evaluation.
SEEN = {
    "num_frames": 30,
    "fps": 30.0,
    "clip_sampling": "windows",
    "frame_size": 112,
    "crop_resize_style": "ShortSide",
    "min_resize": 128,
    "pixel_mean": 0.45,
    "pixel_std": 0.225,
}
HEARD = {
    "sample_rate": 24000,
    "raw_audio": False,
    "audio_features": "filterbank",
    "mel_bins": 40,
    "stft_length": 0.02,
    "stft_step": 0.01,
    "audio_seconds": 1.0,
    "audio_mean": 1.93,
    "audio_std": 17.89,
}
# What is changed at random in training.
AUGMENTED = {
    "max_resize": 160,
    "color_style": "blend",
    "color_probability": 1.0,
    "volume_jitter": 0.1,
    "audio_masking": "medium",
}
# Of videos with captions: the whole of the shorter side, values in [0, 1], and no augmentation.
SEEN_WITH_CAPTIONS = {
    "num_frames": 30,
    "fps": 16.0,
    "clip_sampling": "windows",
    "frame_size": 112,
    "crop_resize_style": "ShortSide",
    "min_resize": 112,
    "pixel_std": 1.0,
}
READ = {"text_tokenizer": "CasedWordTokenizer", "max_num_words": 20}
PLAIN = {"horizontal_flip": False, "color_augment": False}
# Not published: the toy corpus on a CPU.
SEEN_TINY = {
    "num_frames": 8,
    "fps": 10.0,
    "video_stride": 2,
    "frame_size": 48,
    "crop_resize_style": "ShortSide",
    "min_resize": 48,
    "pixel_mean": 0.45,
    "pixel_std": 0.225,
}
HEARD_TINY = {
    **HEARD,
    "sample_rate": 16000,
    "audio_seconds": 1.6,
}


def _optimizer() -> experiment.TorchSGDOptimizer:
    """The published one for 64 GPUs; milestones of the scripts lie after the end."""
    return experiment.TorchSGDOptimizer(
        weight_decay=1e-5,
        learning_rate=experiment.MultiStepLearningRate(
            learning_rate_base=0.01,
            total_steps=201 * EPOCH,
            steps_per_epoch=EPOCH,
            warmup_epochs=10,
            times_replicas=True,
        ),
    )


def audio_visual(model: ModelConfig) -> Pretrain:
    """Returns the published run on Kinetics-400 of a model."""
    data = dataset.Pretrain(name="kinetics400", batch_size=512, **SEEN, **HEARD, **AUGMENTED)
    return Pretrain(
        model=model,
        train=experiment.TrainConfig(input=data, optimizer=_optimizer()),
        eval=experiment.EvalConfig(input=dataset.Evaluation(video_stride=1, **SEEN, **HEARD)),
    )


def video_text() -> Pretrain:
    """Returns the published run on HowTo100M."""
    data = CaptionInput(name="howto100m", batch_size=768, **SEEN_WITH_CAPTIONS, **PLAIN, **READ)
    seen = dataset.Evaluation(video_stride=1, **SEEN_WITH_CAPTIONS, **READ)
    return Pretrain(
        model=CaptionModel(text_model_kwargs={"vocab_size": 66_250}),
        train=experiment.TrainConfig(input=data, optimizer=_optimizer()),
        eval=experiment.EvalConfig(input=seen),
    )


def tiny() -> Pretrain:
    """Returns a run that trains on a CPU; not published."""
    changed = {"max_resize": 56, "color_augment": False, "volume_jitter": 0.1}
    data = dataset.Pretrain(
        name="toy_audioset", batch_size=16, **SEEN_TINY, **HEARD_TINY, **changed
    )
    model = SoundModel(
        model_name="gdt_tiny",
        video_backbone="r2plus1d_tiny",
        audio_backbone="resnet_tiny",
        head_config=ProjectionConfig(d_model=64, d_hidden=128, dropout_rate=0.1),
    )
    rate = experiment.CosineDecayLearningRate(
        learning_rate_base=1e-3, warmup_steps=60, total_steps=2_000
    )
    seen = dataset.Evaluation(**SEEN_TINY, **HEARD_TINY)
    return Pretrain(
        model=model,
        train=experiment.TrainConfig(
            input=data, optimizer=experiment.AdamOptimizer(learning_rate=rate)
        ),
        eval=experiment.EvalConfig(input=seen),
    )
