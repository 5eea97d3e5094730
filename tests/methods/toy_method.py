"""A complete method made outside the package: a tower each for pictures and sound, InfoNCE.

python -m vatt.main --import=toy_method --model_arch=toy ...        (docs/adding-a-method.md)
"""

from typing import ClassVar

import keras
from keras import ops
from pydantic import SerializeAsAny

from vatt.configs import audio, backbones, dataset, experiment, video
from vatt.configs.base import Count
from vatt.configs.model import PretrainModel
from vatt.data.examples import Clips
from vatt.methods import Method
from vatt.modeling import factory, flops
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.pretraining import Pair, PretrainingModel
from vatt.objectives.contrastive import l2_normalize

CELLS = {"video": (4, 4, 4), "audio": (16,)}  # along time, height, width
MODALITIES = tuple(CELLS)


@backbones.register("toy_video")
class ToyVideo(video.ModelConfig):
    layer: ClassVar[str] = f"{__name__}:tower"
    name: str = "toy_video"
    width: Count = 32


@backbones.register("toy_audio")
class ToyAudio(audio.ModelConfig):
    layer: ClassVar[str] = f"{__name__}:tower"
    name: str = "toy_audio"
    width: Count = 32


class Tower(ConfiguredLayer):
    """Mean squares in coarse cells, then a dense layer."""

    def __init__(self, cells, width, **kwargs):
        super().__init__(**kwargs)
        self.cells, self.features_dim = cells, width
        self.dense = keras.layers.Dense(width, name="dense", dtype=self.dtype_policy)

    def build(self, input_shape):
        self.dense.build((None, *self.cells, input_shape[-1]))

    def call(self, x, training=False, rng=None):
        for axis, cells in enumerate(self.cells, 1):
            x = ops.reshape(
                x, (-1, *x.shape[1:axis], cells, x.shape[axis] // cells, *x.shape[axis + 1 :])
            )
            x = ops.mean(ops.square(x), axis=axis + 1)
        features = self.dense(x)  # [batch, *cells, width]
        pooled = ops.max(features, axis=tuple(range(1, 1 + len(self.cells))))
        return {"features_pooled": pooled, "features": features}


def tower(config, *, name, dtype):
    return Tower(CELLS[config.modalities[0]], config.width, name=name, dtype=dtype)


@flops.count.register
def _(layer: Tower, shape, training=False):
    return flops.Tower(layer.cells, None, flops.product(64, shape[-1], layer.features_dim))


class ToyConfig(PretrainModel):
    model_name: str = "toy"
    video: ToyVideo = ToyVideo()
    audio: ToyAudio = ToyAudio()

    def backbones(self):
        return {f"model_config.{m}": getattr(self, m) for m in MODALITIES}


class ToyModel(PretrainingModel):
    modalities = MODALITIES
    pairs = (Pair("audio", "video", "audio", "video"),)

    def __init__(self, config, shapes, precision):
        super().__init__(name=config.model_name, dtype=precision)
        self.video, self.audio = (
            factory.build_backbone(getattr(config, m), dtype=precision) for m in MODALITIES
        )
        self.build(shapes)

    def embed(self, features):
        return {m: features[m]["features_pooled"] for m in features}


class InfoNCE:
    names = ("audio_video_loss", "total_loss")

    def __call__(self, outputs, batch, replica, rng):
        sound, picture = (l2_normalize(outputs[m]["features_pooled"]) for m in ("audio", "video"))
        scores = ops.matmul(sound, ops.transpose(replica.gather(picture))) / 0.1
        loss = ops.mean(ops.logsumexp(scores, axis=1) - ops.sum(sound * picture, axis=1) / 0.1)
        return dict.fromkeys(self.names, loss)


class ToyRun(experiment.Pretrain):
    method: ClassVar[str] = "toy"
    model: SerializeAsAny[ToyConfig] = experiment.Field(ToyConfig(), alias="model_config")
    train: experiment.TrainConfig = experiment.TrainConfig(
        input=dataset.Pretrain(), optimizer=experiment.AdamOptimizer()
    )


METHOD = Method(
    name="toy",
    presets={"toy": ToyRun},
    examples=lambda cfg: Clips(cfg.train.input, MODALITIES),
    model=ToyModel,
    objective=lambda config: InfoNCE(),
    evaluators=("retrieval", "knn"),
)
