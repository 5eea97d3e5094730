"""The modality-agnostic backbone: one encoder for video, audio and text.

Each modality keeps its own way in (tokens, projection, positions, aggregation token) and out
(projection); only the encoder between them is shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import keras
from keras import ops

from vatt import configs
from vatt.modeling.backbones.base import Backbone
from vatt.modeling.backbones.patch_transformer import PatchTransformer
from vatt.modeling.layers.attention import padding_bias
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions, build_each
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.layers.positions import Positions
from vatt.modeling.layers.tokens import AggregationToken, with_first
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import DType, Features, Outputs, Shape, Tensor

MODALITIES = ("video", "audio", "text")

POST_ACTIVATION = "gelu"  # whatever the config's activation: the published config has no field


class Patches(TypedDict):
    """Size of a patch and rows of the position table along each axis of a signal."""

    patch: Sequence[int]
    buckets: Sequence[int]


class Words(TypedDict):
    """Shape of the word embedding, whether it is trained, and rows of the position table."""

    vocab_size: int
    d_embedding: int
    trainable_embeddings: bool
    buckets: int


@keras.saving.register_keras_serializable("vatt")
class UnifiedTransformer(ConfiguredLayer):
    """Three towers around one encoder, as attributes `video`, `audio` and `text`.

    Args:
      encoder: options of the encoder.
      video, audio: their patches.
      text: its words.
      d_post_proj: width of the features of every modality.
      pre_activation: of the projection into the encoder.
      patch_sampling_rate: share of video and audio tokens kept in training (DropToken).
      patch_init_std: of the patch projections, by modality; see `PatchEmbedding`.
    """

    def __init__(
        self,
        encoder: EncoderOptions | Mapping[str, Any],
        video: Patches,
        audio: Patches,
        text: Words,
        d_post_proj: int,
        pre_activation: str = "gelu",
        patch_sampling_rate: float = 1.0,
        patch_init_std: Mapping[str, float | None] | None = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.encoder = Encoder(encoder, name="encoder", dtype=self.dtype_policy)
        shared = {"encoder": self.encoder, "pre_projection": pre_activation}
        shared |= {"post_projection": (d_post_proj, POST_ACTIVATION), "dtype": self.dtype_policy}

        def patches(axes: Sequence[str], sizes: Patches, name: str) -> PatchTransformer:
            return PatchTransformer(
                axes,
                sizes["patch"],
                sizes["patch"],
                sizes["buckets"],
                patch_sampling_rate=patch_sampling_rate,
                patch_init_std=(patch_init_std or {}).get(name),
                name=name,
                **shared,
            )

        self.video = patches(("temporal", "vertical", "horizontal"), video, "video")
        self.audio = patches(("temporal",), audio, "audio")
        self.text = WordTransformer(**text, name="text", **shared)

    def build(self, batch_shapes: Mapping[str, Sequence[int | None]]) -> None:
        """Creates all variables; of the shapes by modality only the channels matter."""
        self.encoder.build((None, None, self.encoder.d_model))
        for modality in MODALITIES:
            getattr(self, modality).build(tuple(batch_shapes[modality]))

    def call(
        self,
        inputs: Mapping[str, Tensor],
        training: bool = False,
        rng: Randomness | None = None,
        intermediates: bool = False,
    ) -> dict[str, Outputs]:
        """Returns the outputs of the tower of each modality in `inputs`."""
        return {
            modality: getattr(self, modality)(
                inputs[modality],
                training=training,
                rng=child(rng, modality),
                intermediates=intermediates,
            )
            for modality in MODALITIES
            if modality in inputs
        }


@keras.saving.register_keras_serializable("vatt")
class WordTransformer(Backbone):
    """Word ids through a shared encoder.

    Args:
      vocab_size, d_embedding: shape of the word embedding.
      trainable_embeddings: whether the word embedding is trained.
      buckets: rows of the position table.
      encoder: the encoder, built and saved by its owner.
      pre_projection: activation of the dense layer between embedding and encoder.
      post_projection: (units, activation) of the dense layer after it.
    """

    def __init__(
        self,
        vocab_size: int,
        d_embedding: int,
        trainable_embeddings: bool,
        buckets: int,
        encoder: Encoder,
        pre_projection: str,
        post_projection: tuple[int, str | None],
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.embedding = keras.layers.Embedding(
            vocab_size, d_embedding, trainable=trainable_embeddings, name="embedding", dtype=policy
        )
        self.pre_projection = self._dense(encoder.d_model, "pre_projection", pre_projection)
        self.positions = Positions(
            ("temporal",), (buckets,), encoder.d_model, name="positions", dtype=policy
        )
        self.aggregation = AggregationToken(name="aggregation", dtype=policy)
        self.encoder = encoder
        self.features_dim, activation = post_projection
        self.post_projection = self._dense(self.features_dim, "post_projection", activation)

    def build(self, input_shape: Shape) -> None:
        """Creates the variables that are not the encoder's, for ids `[batch, words]`."""
        self.embedding.build(input_shape)
        self.pre_projection.build((None, None, self.embedding.output_dim))
        parts = (self.positions, self.aggregation, self.post_projection)
        build_each(parts, (None, None, self.encoder.d_model))

    def encode(
        self, x: Tensor, training: bool, rng: Randomness | None, intermediates: bool
    ) -> tuple[Features, Outputs]:
        """Encodes word ids, int32 `[batch, words]`, 0 = padding.

        Returns:
          `features_pooled` `[batch, d]`, `features` `[batch, words, d]`, `word_ids` and
          `attention_mask` `[batch, words]`. As inner states `hidden_states_last` and
          `attention_weights`.
        """
        ids = ops.cast(x, "int32")
        word_mask = ops.cast(ops.not_equal(ids, 0), "float32")
        tokens = self.positions(
            self.pre_projection(self.embedding(ids)),
            grid=(ids.shape[1],),
            training=training,
            rng=child(rng, "positions"),
        )
        hidden, weights = self.encoder(
            self.aggregation(tokens),
            bias=padding_bias(with_first(word_mask)),
            training=training,
            rng=child(rng, "encoder"),
            return_weights=intermediates,
        )
        final = self.post_projection(hidden)
        outputs = {"features_pooled": final[:, 0], "features": final[:, 1:]}
        outputs |= {"word_ids": ids, "attention_mask": word_mask}
        return outputs, {"hidden_states_last": hidden, "attention_weights": weights}


def ut(
    config: configs.unified.UniTBase, *, name: str = "unified", dtype: DType = "float32"
) -> UnifiedTransformer:
    """Returns the unified transformer of a UT config."""
    side, frames = config.vid_spatial_patch_size, config.vid_temporal_patch_size
    rows = config.max_vid_spatial_buckets
    return UnifiedTransformer(
        encoder=EncoderOptions.from_config(config),
        video={
            "patch": (frames, side, side),
            "buckets": (config.max_vid_temporal_buckets, rows, rows),
        },
        audio={
            "patch": (config.aud_temporal_patch_size,),
            "buckets": (config.max_aud_temporal_buckets,),
        },
        text={
            "vocab_size": config.txt_vocab_size,
            "d_embedding": config.txt_embedding_dim,
            "trainable_embeddings": config.txt_embedding_trainable,
            "buckets": config.max_txt_temporal_buckets,
        },
        d_post_proj=config.d_post_proj,
        pre_activation=config.activation or "linear",
        patch_sampling_rate=config.patch_sampling_rate if config.random_patch_sampling else 1.0,
        patch_init_std={"video": config.vid_patch_init_std, "audio": config.aud_patch_init_std},
        name=name,
        dtype=dtype,
    )
