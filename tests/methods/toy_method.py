"""A method made outside the package: a tower per modality, InfoNCE between sound and picture.

python -m vatt.main --import=toy_method --model_arch=toy ...        (docs/adding-a-method.md)
"""

from __future__ import annotations

from typing import ClassVar

import keras
import tensorflow as tf
from keras import ops
from pydantic import SerializeAsAny

from vatt.configs import audio, backbones, dataset, experiment, video
from vatt.configs.base import Count
from vatt.configs.model import PretrainModel
from vatt.data import clips, pipeline, sampling
from vatt.data.examples import Examples
from vatt.methods import Method
from vatt.modeling import factory, flops
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.pretraining import Pair, PretrainingModel
from vatt.objectives.contrastive import l2_normalize

CELLS = {"video": (4, 4, 4), "audio": (16,)}  # along time, height, width


@backbones.register("toy_video")
class ToyVideo(video.ModelConfig):
    layer: ClassVar[str] = "toy_method:tower"
    name: str = "toy_video"
    width: Count = 32


@backbones.register("toy_audio")
class ToyAudio(audio.ModelConfig):
    layer: ClassVar[str] = "toy_method:tower"
    name: str = "toy_audio"
    width: Count = 32


@keras.saving.register_keras_serializable("toy")
class Tower(ConfiguredLayer):
    """Mean squares of coarse cells, then a dense layer."""

    def __init__(self, cells, width, **kwargs):
        super().__init__(config={"cells": cells, "width": width}, **kwargs)
        self.cells, self.features_dim = tuple(cells), width
        self.dense = keras.layers.Dense(width, "relu", name="dense", dtype=self.dtype_policy)

    def build(self, input_shape):
        self.dense.build((None, int(ops.prod(self.cells)) * input_shape[-1]))

    def call(self, x, training=False, rng=None):
        sizes = [
            n for c, size in zip(self.cells, x.shape[1:], strict=False) for n in (c, size // c)
        ]
        x = ops.reshape(ops.square(x), (-1, *sizes, x.shape[-1]))
        x = ops.mean(x, axis=tuple(range(2, 2 * len(self.cells) + 1, 2)))
        pooled = self.dense(ops.reshape(x, (x.shape[0] or -1, self.dense.kernel.shape[0])))
        return {"features_pooled": pooled, "features": pooled}


@flops.count.register
def _(layer: Tower, shape, training=False):
    inputs = int(ops.prod(layer.cells)) * shape[-1]
    return flops.Tower(shape[:-1], None, flops.product(1, inputs, layer.features_dim))


def tower(config, *, name, dtype):
    return Tower(CELLS[config.modalities[0]], config.width, name=name, dtype=dtype)


class ToyConfig(PretrainModel):
    model_name: str = "toy"
    width: Count = 32

    def backbones(self):
        return {
            "model_config": ToyVideo(width=self.width),
            " model_config": ToyAudio(width=self.width),
        }


class ToyModel(PretrainingModel):
    modalities = ("video", "audio")
    pairs = (Pair("audio", "video", "audio", "video"),)

    def __init__(self, video, audio, **kwargs):
        super().__init__(**kwargs)
        self.video, self.audio = video, audio

    def build(self, shapes):
        for modality in self.modalities:
            self.backbone(modality).build((None, *shapes[modality]))
        self.built = True

    def towers(self, inputs, training=False, rng=None):
        return {m: self.backbone(m)(inputs[m], training) for m in self.modalities if m in inputs}

    def embed(self, features):
        return {m: ops.cast(f["features_pooled"], "float32") for m, f in features.items()}


def model(config, shapes, precision):
    towers = [factory.build_backbone(b, dtype=precision) for b in config.backbones().values()]
    built = ToyModel(*towers, name=config.model_name, dtype=precision)
    built.build(shapes)
    return built


class InfoNCE:
    names = ("audio_video_loss", "total_loss")

    def __call__(self, outputs, batch, replica, rng):
        sound, picture = (l2_normalize(outputs[m]["features_pooled"]) for m in ("audio", "video"))
        scores = ops.matmul(sound, ops.transpose(replica.gather(picture))) / 0.1
        own = ops.sum(sound * picture, axis=-1) / 0.1
        loss = ops.mean(ops.logsumexp(scores, axis=1) - own)
        return {"audio_video_loss": loss, "total_loss": loss}


class SoundAndPicture(Examples):
    @property
    def shapes(self):
        return {m: pipeline.clip_shapes(self.cfg)[m] for m in ToyModel.modalities}

    def maker(self, card):
        spec = pipeline.clip_spec(self.cfg, card, self.cfg.video_stride)

        def make(seed, serialized):
            return clips.synchronised_clip(
                clips.parse(serialized, spec.schema, spec.record_type),
                sampling.seeds_per_use(seed),
                self.cfg,
                spec,
            )

        return make


class ToyRun(experiment.Pretrain):
    method: ClassVar[str] = "toy"
    model: SerializeAsAny[ToyConfig] = ToyConfig()
