"""CLIP's transformer of text (Radford et al., 2021): ids of words to states of tokens.

layer = ClipText.of(tensors)               # by the published names of their weights
tokens, mask = layer(ids)                  # ids int32 [rows, context]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self, Unpack

import keras
import numpy as np
from keras import ops

from vatt.modeling.layers.attention import MASKED
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.typing import DType, Shape, Tensor

D_HEAD = 64  # of the published models
EPSILON = 1e-5  # of layer norms
# A pattern of our path below the layer, without the leaf, and the published module.
_RULES = (
    (r"encoder/layer_(\d+)/attention_norm", r"transformer.resblocks.\1.ln_1"),
    (r"encoder/layer_(\d+)/attention/o", r"transformer.resblocks.\1.attn.out_proj"),
    (r"encoder/layer_(\d+)/feed_forward_norm", r"transformer.resblocks.\1.ln_2"),
    (r"encoder/layer_(\d+)/feed_forward/wi", r"transformer.resblocks.\1.mlp.c_fc"),
    (r"encoder/layer_(\d+)/feed_forward/wo", r"transformer.resblocks.\1.mlp.c_proj"),
    (r"encoder/final_norm", "ln_final"),
)
_JOINED = re.compile(r"encoder/layer_(\d+)/attention/([qkv])/(kernel|bias)")
_OWN = {
    "embedding/embeddings": "token_embedding.weight",
    "positions": "positional_embedding",
    "projection": "text_projection",
}
_LEAVES = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


@keras.saving.register_keras_serializable("vatt")
class ClipText(ConfiguredLayer):
    """Words see those before them; the states of the first ones are projected.

    Args:
      vocab_size: rows of the word embedding; the last one is the end of a sentence, the one before
        it a beginning.
      context: ids of a sentence.
      width: of the states.
      num_layers: blocks.
      num_heads: of the attention.
      d_out: width of what is returned.
      tokens: how many states are returned at most, from that of the first word on.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int,
        width: int,
        num_layers: int,
        num_heads: int,
        d_out: int,
        tokens: int = 20,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.context, self.width, self.d_out, self.tokens = context, width, d_out, tokens
        policy = self.dtype_policy
        self.embedding = keras.layers.Embedding(vocab_size, width, name="embedding", dtype=policy)
        options = EncoderOptions(
            num_layers,
            width,
            num_heads,
            d_kv=width // num_heads,
            d_ff=4 * width,
            activation="gelu_sigmoid",
            dropout_rate=0.0,
            layer_norm_epsilon=EPSILON,
        )
        self.encoder = Encoder(options, name="encoder", dtype=policy)

    def build(self, input_shape: Shape | None = None) -> None:
        """Creates all variables for ids `[rows, context]`."""
        self.embedding.build((None, self.context))
        self.encoder.build((None, self.context, self.width))
        normal = keras.initializers.RandomNormal(stddev=0.01)
        self.positions = self.add_weight(
            shape=(self.context, self.width), initializer=normal, name="positions"
        )
        self.projection = self.add_weight(
            shape=(self.width, self.d_out), initializer="glorot_uniform", name="projection"
        )

    def call(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Returns tokens `[rows, tokens, d_out]` and a mask, 1 before the end of the sentence.

        The end is where the largest id stands; the beginning is left out, and a sentence without
        words has no token. Nothing is brought to length 1.
        """
        x = self.embedding(ids) + ops.cast(self.positions, self.compute_dtype)[None]
        after = 1.0 - np.tri(self.context, dtype=np.float32)
        bias = ops.convert_to_tensor(after * np.float32(MASKED))[None, None]
        states, _ = self.encoder(x, bias=bias)
        seen = states[:, 1 : 1 + self.tokens]
        tokens = ops.matmul(seen, ops.cast(self.projection, self.compute_dtype))
        end = ops.cast(ops.argmax(ids, axis=-1), "int32")[:, None]
        places = ops.arange(1, 1 + self.tokens, dtype="int32")[None]
        return tokens, ops.cast(places < end, "float32")

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, np.ndarray],
        num_heads: int | None = None,
        tokens: int = 20,
        name: str = "clip_text",
        dtype: DType = "float32",
    ) -> Self:
        """Returns a layer with published weights, frozen; tensors of pictures are passed over.

        Raises:
          KeyError: a tensor is missing.
          ValueError: one has another shape.
        """
        vocab_size, width = tensors["token_embedding.weight"].shape
        blocks = (re.match(r"transformer\.resblocks\.(\d+)\.", key) for key in tensors)
        layer = cls(
            vocab_size,
            len(tensors["positional_embedding"]),
            width,
            1 + max((int(match[1]) for match in blocks if match), default=-1),
            num_heads or max(width // D_HEAD, 1),
            tensors["text_projection"].shape[1],
            tokens,
            name=name,
            dtype=dtype,
        )
        layer.build()
        for variable in layer.variables:
            local = variable.path.removeprefix(f"{layer.path}/")
            variable.assign(_tensor(local, tensors).astype(np.float32))
        layer.trainable = False
        return layer


def _tensor(local: str, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the published tensor of a variable, as that has it."""
    if local in _OWN:
        return tensors[_OWN[local]]
    if match := _JOINED.fullmatch(local):
        kind = "in_proj_weight" if match[3] == "kernel" else "in_proj_bias"
        joined = tensors[f"transformer.resblocks.{match[1]}.attn.{kind}"]
        return np.split(joined, 3)["qkv".index(match[2])].T
    layer, _, leaf = local.rpartition("/")
    module = next(m.expand(to) for pattern, to in _RULES if (m := re.fullmatch(pattern, layer)))
    return tensors[f"{module}.{_LEAVES[leaf]}"].T
