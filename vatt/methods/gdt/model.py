"""GDT's model: a backbone and a projection head for video and for sound or captions.

Each set of transformed clips is a pass of its own through backbone and head, whose batch norm sees
only this set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras import ops

from vatt.methods.gdt.config import ModelConfig
from vatt.modeling import factory, flops
from vatt.modeling.backbones.language_models import LinearBase
from vatt.modeling.layers import dense, projection
from vatt.modeling.pretraining import Features, Pair, PretrainingModel
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import DType, Tensor

POOLED = "features_pooled"
CLIP_AXES = 4  # frames, height, width, channels


class TransformedClips(PretrainingModel):
    """Video and one other modality, in one space.

    Examples hold their clips along an axis, in the order of the hypothesis' sets; clips without
    that axis are evaluated.

    Args:
      config: backbones, head and hypothesis.
      dtype: 'float32' or 'mixed_bfloat16'.
    """

    def __init__(self, config: ModelConfig, dtype: DType = "float32"):
        super().__init__(name=config.model_name, dtype=dtype)
        self.modalities = config.modalities
        hypothesis = config.terms()
        self.sets, self.passes = hypothesis.sets, hypothesis.passes
        for modality in self.modalities:
            backbone = factory.build_backbone(config.resolve(modality), dtype=dtype)
            setattr(self, modality, backbone)
            head = projection.build(config.head_config, name=f"{modality}_head")
            setattr(self, f"{modality}_head", head)

    def build(self, shapes: Mapping[str, Sequence[int | None]]) -> None:
        """Creates every variable; `shapes` are those of an example, by modality."""
        several = len(shapes["video"]) > CLIP_AXES
        # Of a row; text has an axis of several captions in either case.
        self.axes = {m: 1 if m == "text" else len(shapes[m]) - several for m in self.modalities}
        for modality in self.modalities:
            backbone, shape = self.backbone(modality), tuple(shapes[modality])
            if isinstance(base := getattr(backbone, "base", None), LinearBase):
                dense.start_uniformly(base.conv1d, backbone.d_embedding)
            backbone.build((None, *self.rows_of(modality, shape)[1]))
            self.head(modality).build((None, backbone.features_dim))
        self.built = True

    def rows_of(
        self, modality: str, shape: tuple[int | None, ...]
    ) -> tuple[int, tuple[int | None, ...]]:
        """Returns how many rows the tower sees of an example of `shape`, and the shape of one."""
        several = len(shape) > self.axes[modality]
        return (shape[0], shape[1:]) if several else (1, shape)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The other modality and video, in their one space."""
        video, other = self.modalities
        return (Pair(other, video, other, video),)

    def head(self, modality: str) -> projection.ProjectionHead:
        """Returns the head of a modality."""
        return getattr(self, f"{modality}_head")

    def head_cost(self, shapes: Mapping[str, tuple[int, ...]]) -> flops.Cost:
        """Returns what the heads cost for one example."""
        costs = (
            flops.projection(self.head(m), self.backbone(m).features_dim)
            * self.rows_of(m, tuple(shapes[m]))[0]
            for m in self.modalities
        )
        return sum(costs, flops.Cost())

    def towers(
        self, inputs: Mapping[str, Tensor], training: bool = False, rng: Randomness | None = None
    ) -> Features:
        """Returns the pooled features of each modality in `inputs`, by modality.

        Of examples, `[rows, sets, ...]`, they are `[rows, sets, d]`; each set is a pass.
        """
        found: Features = {}
        for modality in (m for m in self.modalities if m in inputs):
            x, tower = inputs[modality], self.backbone(modality)
            below = child(rng, modality)
            if len(x.shape) - 1 == self.axes[modality]:
                found[modality] = tower(x, training=training, rng=below)
                continue
            pooled = {
                name: tower(x[:, self.sets.index(name)], training=training, rng=child(below, name))
                for name in self.passes
            }
            stacked = ops.stack([pooled[name][POOLED] for name in self.sets], axis=1)
            found[modality] = {POOLED: stacked}
        return found

    def train_outputs(
        self, features: Features, rng: Randomness | None = None
    ) -> dict[str, dict[str, Tensor]]:
        """Returns embeddings `[rows, d]` by modality and set; batch norm sees all replicas."""
        return {
            modality: {
                name: self.head(modality)(
                    features[modality][POOLED][:, self.sets.index(name)],
                    training=True,
                    rng=child(child(rng, f"{modality}_head"), name),
                )
                for name in self.passes
            }
            for modality in self.modalities
        }

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Returns embeddings `[rows, d]` by modality."""
        return {m: self.head(m)(features[m][POOLED], training=False) for m in features}
