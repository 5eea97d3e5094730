"""STiCA's model: backbones of video and sound, crops of feature maps, pooling, projection heads.

A clip comes in two views. Their feature maps, and crops of them, go through the same pooling and
head, each as a pass of its own, whose batch norm sees only it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras import ops

from vatt.methods.stica import crops
from vatt.methods.stica.config import ModelConfig
from vatt.methods.stica.objective import CropEmbeddings, Embeddings
from vatt.modeling import factory, flops
from vatt.modeling.layers import projection
from vatt.modeling.layers.pooling import TemporalPooling
from vatt.modeling.pretraining import Features, Pair, PretrainingModel
from vatt.modeling.random import Randomness, child, require
from vatt.modeling.typing import DType, Tensor

POOLED, MAP = "features_pooled", "features"
CLIP_AXES = 4  # frames, height, width, channels
VIEWS = 2


class CroppedViews(PretrainingModel):
    """Video in two views, and its sound, in one space.

    Examples hold the views of a clip along an axis; clips without that axis are evaluated.

    Args:
      config: backbones, crops, pooling and head.
      dtype: 'float32' or 'mixed_bfloat16'.
    """

    read_in_training = (MAP, POOLED)

    def __init__(self, config: ModelConfig, dtype: DType = "float32"):
        super().__init__(name=config.model_name, dtype=dtype)
        self.modalities = config.modalities
        for modality in self.modalities:
            backbone = factory.build_backbone(config.resolve(modality), dtype=dtype)
            setattr(self, modality, backbone)
            head = projection.build(config.head_config, name=f"{modality}_head")
            setattr(self, f"{modality}_head", head)
        self._config, self._crops = config, config.crops()

    def build(self, shapes: Mapping[str, Sequence[int | None]]) -> None:
        """Creates every variable; `shapes` are those of an example, by modality."""
        config, width = self._config, self.video.features_dim
        _, clip = self.rows_of("video", tuple(shapes["video"]))
        self.video.build((None, *clip))
        grid = flops.count(self.video, clip).grid
        self.pooling = TemporalPooling(
            width,
            config.num_layer,
            config.num_head,
            steps=config.transformer_time_dim or grid[0],
            dropout_rate=config.dp,
            positions=config.positional_emb,
            project_values=config.qkv_mha,
            name="pooling",
            dtype=self.dtype_policy,
        )
        self.pooling.build((None, *grid, width))
        self.video_head.build((None, width))
        if "audio" in self.modalities:
            self.audio.build((None, *shapes["audio"]))
            self.audio_head.build((None, self.audio.features_dim))
        self.built = True

    def rows_of(
        self, modality: str, shape: tuple[int | None, ...]
    ) -> tuple[int, tuple[int | None, ...]]:
        """Returns how many rows the tower sees of an example of `shape`, and the shape of one."""
        several = modality == "video" and len(shape) > CLIP_AXES
        return (shape[0], shape[1:]) if several else (1, shape)

    def tower_paths(self) -> dict[str, dict[str, str]]:
        """Returns where the variables of each backbone stand; of the video's the pooling, too."""
        paths = super().tower_paths()
        paths["video"]["pooling/"] = f"{self.pooling.path}/"
        return paths

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Sound and video, in their one space; none without sound."""
        both = (Pair("audio", "video", "audio", "video"),)
        return both if "audio" in self.modalities else ()

    def head_cost(self, shapes: Mapping[str, tuple[int, ...]]) -> flops.Cost:
        """Returns what pooling and heads cost for one clip, its crops left out."""
        heads = (
            flops.projection(getattr(self, f"{m}_head"), self.backbone(m).features_dim)
            for m in self.modalities
        )
        return sum(heads, flops.pooling(self.pooling))

    def towers(
        self, inputs: Mapping[str, Tensor], training: bool = False, rng: Randomness | None = None
    ) -> Features:
        """Returns features by modality in `inputs`: of video the map, and what it is pooled to.

        Of examples these are `[rows, views, ...]`; each view is a pass.
        """
        if "video" not in inputs or len(inputs["video"].shape) == 1 + CLIP_AXES:
            found = super().towers(inputs, training=training, rng=rng)
            if "video" in found:
                found["video"][POOLED] = self.pooling(found["video"][MAP], training=training)
            return found
        others = {m: x for m, x in inputs.items() if m != "video"}
        found = super().towers(others, training=training, rng=rng)
        below = child(rng, "video")
        views = [
            self._viewed(inputs["video"][:, view], training, child(below, f"view_{view}"))
            for view in range(VIEWS)
        ]
        found["video"] = {
            name: ops.stack([view[name] for view in views], axis=1) for name in (MAP, POOLED)
        }
        return found

    def _viewed(self, x: Tensor, training: bool, rng: Randomness | None) -> dict[str, Tensor]:
        found = self.video(x, training=training, rng=rng)[MAP]
        return {MAP: found, POOLED: self.pooling(found, training=training, rng=child(rng, "map"))}

    def train_outputs(self, features: Features, rng: Randomness | None = None) -> Embeddings:
        """Returns embeddings of views, sounds and crops; batch norm sees all replicas."""
        rng = require(rng, "cropping feature maps")
        video, pooled = (features["video"][name] for name in (MAP, POOLED))
        sounds = VIEWS if "audio" in self.modalities else 0
        return Embeddings(
            [
                self.video_head(pooled[:, view], training=True, rng=rng.child(f"video_{view}"))
                for view in range(VIEWS)
            ],
            [
                self.audio_head(
                    features["audio"][POOLED], training=True, rng=rng.child(f"audio_{view}")
                )
                for view in range(sounds)
            ],
            {kind: self._cropped(video, kind, rng.child(kind)) for kind in self._crops},
        )

    def _cropped(self, video: Tensor, kind: str, rng: Randomness) -> CropEmbeddings:
        """Returns embeddings of the crops that are compared, of maps `[rows, views, ...]`."""
        cut = self._crops[kind]
        sides = tuple(video.shape[1 + axis] for axis in cut.axes)
        starts = [
            crops.draw_starts(cut, sides, crops.drawn_by(rng.child(f"places_{view}")))
            for view in range(VIEWS)
        ]

        def embed(view: int, index: int, small: bool = False) -> Tensor:
            places = starts[view].small if small else starts[view].large
            place = rng.child(f"view_{view}").child(f"{'small' if small else 'large'}_{index}")
            piece = crops.cut(video[:, view], cut, places[index], small)
            piece = self.pooling(piece, training=True, rng=place.child("pooling"))
            return self.video_head(piece, training=True, rng=place.child("head"))

        pairs, _ = cut.counts
        return CropEmbeddings(
            [embed(0, index) for index in range(len(starts[0].large))],
            embed(1, 1) if pairs else None,
            [embed(1, index, small=True) for index in range(cut.small * bool(cut.large))],
        )

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Returns embeddings `[rows, d]` by modality."""
        return {m: getattr(self, f"{m}_head")(x[POOLED]) for m, x in features.items()}
