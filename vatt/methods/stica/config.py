"""STiCA's configuration: backbones, crops of feature maps, pooling, losses, clips, presets.

Names and defaults are those of the published scripts where they have any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field, SerializeAsAny

from vatt.configs import dataset, experiment
from vatt.configs.base import Count, Positive, Rate, UnitInterval, WholeNumber
from vatt.configs.model import ProjectionConfig, TwoTowers
from vatt.configs.problems import ConfigError, Problem, Problems
from vatt.configs.transformers import PatchEncoder

SPACE, TIME = "space", "time"
# Along which axes of maps [rows, time, height, width, channels] crops are smaller than the map.
AXES = {SPACE: (2, 3), TIME: (1,)}
LONG = 8  # steps in time from which on crops have the published sizes of long clips

AtMostTwo = Annotated[int, Field(ge=0, le=2)]


@dataclass(frozen=True)
class Crops:
    """What is cut out of a feature map, in space or in time.

    Attributes:
      kind: SPACE or TIME.
      large: number of large crops of a view.
      small: number of small ones.
      published_offsets: a crop never takes the last of several places, as published.
    """

    kind: str
    large: int
    small: int
    published_offsets: bool = False

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes in which crops are smaller than the map."""
        return AXES[self.kind]

    @property
    def counts(self) -> tuple[int, int]:
        """How many pairs are compared: of large crops, of a small with a large one."""
        return int(self.large > 1), self.large * self.small

    @property
    def comparisons(self) -> int:
        """How many pairs are compared."""
        return sum(self.counts)

    def size(self, side: int, small: bool) -> int:
        """Returns the length of a crop along an axis of the map.

        Published: in space 6 and 4 of 7; in time 3 and 2 of 4 steps, 6 and 4 of 8 and more. Other
        maps are cut in proportion.
        """
        if self.kind == TIME and side >= LONG:
            return 4 if small else 6
        share = (4 / 7, 6 / 7) if self.kind == SPACE else (1 / 2, 3 / 4)
        return min(max(round(side * share[not small]), 1), side)


class ModelConfig(TwoTowers):
    """Backbones, pooling, head and losses.

    `num_large_crops`, `num_small_crops` (in space), `num_large_tcrops`, `num_small_tcrops` (in
    time): crops of each view's feature map. `published_offsets`: crops never take the last place,
    so that large ones of published sizes do not move.
    `temp`: temperature of the losses between crops. `cross_modal_alpha`: weight of the loss with
    sound; that of crops is the rest.
    `num_layer`, `num_head`, `dp`, `positional_emb`, `qkv_mha`, `transformer_time_dim`: the pooling
    over time; 0 layers average. `transformer_time_dim` null: as many as the map has steps.
    """

    model_name: str = "stica"
    video_backbone: str = "r2plus1d_18"
    audio_backbone: str = "resnet9"
    audio_model_kwargs: dict[str, Any] = Field(default_factory=dict)
    head_config: ProjectionConfig = Field(default_factory=ProjectionConfig)
    num_large_crops: AtMostTwo = 2
    num_small_crops: WholeNumber = 0
    num_large_tcrops: AtMostTwo = 0
    num_small_tcrops: WholeNumber = 0
    published_offsets: bool = False
    temp: Positive = 0.5
    cross_modal_alpha: UnitInterval = 0.5
    num_layer: WholeNumber = 2
    num_head: Count = 4
    dp: Rate = 0.0
    positional_emb: bool = False
    qkv_mha: bool = False
    transformer_time_dim: Annotated[int, Field(ge=1, le=64)] | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model takes; no sound where it is not compared."""
        return super().modalities if self.cross_modal_alpha > 0 else ("video",)

    def crops(self) -> Mapping[str, Crops]:
        """Returns what is cut, by kind."""
        return {
            SPACE: Crops(SPACE, self.num_large_crops, self.num_small_crops, self.published_offsets),
            TIME: Crops(TIME, self.num_large_tcrops, self.num_small_tcrops, self.published_offsets),
        }

    def problems(self) -> Problems:
        """Yields crops that nothing is compared with."""
        for kind, letter in ((SPACE, ""), (TIME, "t")):
            crops = self.crops()[kind]
            if crops.small and not crops.large:
                accepted = f"expected at least 1: small crops in {kind} look for large ones"
                yield Problem(f"model_config.num_large_{letter}crops", 0, accepted)
        yield from self._map_problems()
        compared = sum(crops.comparisons for crops in self.crops().values())
        if not compared and self.cross_modal_alpha < 1:
            yield Problem(
                "model_config.num_large_crops",
                self.num_large_crops,
                "nothing is compared within the video: expected 2 large crops, or small ones beside"
                " a large one, in space or time, or cross_modal_alpha 1",
            )

    def _map_problems(self) -> Problems:
        """Yields a backbone without maps, or maps whose channels heads cannot share."""
        try:
            video = self.resolve("video")
        except ConfigError:
            return  # told with the backbones
        if isinstance(video, PatchEncoder):
            accepted = "expected a convolutional backbone: crops are cut from its maps"
            yield Problem("model_config.video_backbone", self.video_backbone, accepted)
        if layers := getattr(video, "pooling_layers", 0):
            accepted = "expected 0: num_layer says how maps are pooled"
            yield Problem("model_config.video_model_kwargs.pooling_layers", layers, accepted)
        channels = getattr(video, "widths", (self.num_head,))[-1]
        if self.num_layer and channels % self.num_head:
            accepted = f"expected a divisor of the {channels} channels of the map"
            yield Problem("model_config.num_head", self.num_head, accepted)


class Pretrain(experiment.Pretrain):
    """A pretraining run of STiCA."""

    method: ClassVar[str] = "stica"

    model: SerializeAsAny[ModelConfig] = Field(default_factory=ModelConfig, alias="model_config")


# Presets ---------------------------------------------------------------------------------------

EPOCH = 470  # steps: 240,000 videos of Kinetics-400, 512 at a time
# What is seen and heard of a clip, in training and evaluation.
SEEN = {
    "num_frames": 30,
    "fps": 30.0,
    "clip_sampling": "windows",
    "frame_size": 112,
    "min_resize": 112,
    "crop_resize_style": "ResizedCrop",
    "pixel_mean": 0.45,
    "pixel_std": 0.225,
}
HEARD = {
    "sample_rate": 24000,
    "raw_audio": False,
    "audio_features": "filterbank",
    "mel_bins": 257,
    "stft_length": 0.02,
    "stft_step": 0.01,
    "audio_seconds": 1.0,
}
# What is changed at random in training.
AUGMENTED = {
    "min_area_ratio": 0.14,
    "min_aspect_ratio": 3 / 4,
    "max_aspect_ratio": 4 / 3,
    "color_style": "blend",
    "grey_probability": 0.2,
    "blur_probability": 0.5,
    "volume_jitter": 0.1,
}


def published() -> Pretrain:
    """Returns the published run on Kinetics-400, for 64 GPUs."""
    data = dataset.Pretrain(name="kinetics400", batch_size=512, **SEEN, **HEARD, **AUGMENTED)
    rate = experiment.LinearWarmupLearningRate(
        learning_rate_base=0.64,
        warmup_learning_rate=0.01,
        warmup_steps=10 * EPOCH,
        total_steps=151 * EPOCH,
    )
    optimizer = experiment.TorchSGDOptimizer(weight_decay=1e-5, learning_rate=rate)
    return Pretrain(
        train=experiment.TrainConfig(input=data, optimizer=optimizer),
        eval=experiment.EvalConfig(input=dataset.Evaluation(video_stride=1, **SEEN, **HEARD)),
        seed=31,
    )


def tiny() -> Pretrain:
    """Returns a run that trains on a CPU; not published."""
    seen = {**SEEN, "num_frames": 8, "fps": 10.0, "video_stride": 2}
    seen |= {"frame_size": 56, "min_resize": 56}  # maps of 1 x 4 x 4
    heard = {**HEARD, "sample_rate": 16000, "mel_bins": 40, "audio_seconds": 1.6}
    augmented = {**AUGMENTED, "min_area_ratio": 0.5, "blur_probability": 0.0}
    data = dataset.Pretrain(name="toy_audioset", batch_size=16, **seen, **heard, **augmented)
    rate = experiment.CosineDecayLearningRate(
        learning_rate_base=1e-3, warmup_steps=60, total_steps=2_000
    )
    return Pretrain(
        model=ModelConfig(
            model_name="stica_tiny",
            video_backbone="r2plus1d_tiny",
            audio_backbone="resnet_tiny",
            head_config=ProjectionConfig(d_model=64, d_hidden=128, dropout_rate=0.1),
            num_small_crops=2,
            num_layer=0,
        ),
        train=experiment.TrainConfig(
            input=data, optimizer=experiment.AdamOptimizer(learning_rate=rate)
        ),
        eval=experiment.EvalConfig(input=dataset.Evaluation(**seen, **heard)),
    )
