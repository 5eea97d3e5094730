"""A backbone of one's own that sees and hears: two small transformers side by side.

with registered(): ...   # --model_arch=two_towers
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from keras import ops

from vatt.configs import audio, backbones, video
from vatt.modeling import flops
from vatt.modeling.backbones.audio import wat
from vatt.modeling.backbones.base import Backbone
from vatt.modeling.backbones.video import vit
from vatt.modeling.random import child

NAME = "two_towers"


class Config(backbones.FineTuned):
    """What there is to say of it."""

    modalities: ClassVar[tuple[str, ...]] = ("video", "audio")
    layer: ClassVar[str] = f"{__name__}:build"

    name: str = NAME


@contextmanager
def registered() -> Iterator[None]:
    """Makes its name known for a while."""
    backbones.register(NAME)(Config)
    try:
        yield
    finally:
        del backbones.BACKBONES[NAME]


class TwoTowers(Backbone):
    """Features of pictures and sound, one after the other."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        sizes = {"num_layers": 1, "dropout_rate": 0.0}
        self.video = vit(video.ViTTiny(**sizes), dtype=self.dtype_policy)
        self.audio = wat(audio.WaTTiny(**sizes), dtype=self.dtype_policy)
        self.features_dim = self.video.features_dim + self.audio.features_dim

    def build(self, input_shape: dict) -> None:
        """Creates the variables of both."""
        for tower in (self.video, self.audio):
            tower.build(input_shape[tower.name])

    def call(self, inputs: dict, training: bool = False, rng: Any = None) -> dict:
        """Returns `features_pooled` [batch, d]; `features` are the same."""
        found = [
            tower(inputs[tower.name], training=training, rng=child(rng, tower.name))
            for tower in (self.video, self.audio)
        ]
        pooled = ops.concatenate([one["features_pooled"] for one in found], axis=-1)
        return {"features_pooled": pooled, "features": pooled}


@flops.count.register
def _(layer: TwoTowers, shape: dict, training: bool = False) -> flops.Tower:
    towers = [flops.count(one, shape[one.name], training) for one in (layer.video, layer.audio)]
    return flops.Tower((), None, towers[0].cost + towers[1].cost)


def build(config: Config, *, name: str, dtype: Any) -> TwoTowers:
    """Returns the layer."""
    return TwoTowers(name=name, dtype=dtype)
