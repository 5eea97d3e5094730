"""CLIP's transformer of text: `clip_text.npz`."""

from __future__ import annotations

import tensorflow as tf

from tests.golden.av_mae.pretraining import EXACT, near
from tests.golden.checks import Checks, Golden
from tests.golden.eao.models import EMBEDDING, weights_of
from vatt.modeling.backbones.clip_text import ClipText


def clip_file(arrays: Golden) -> Checks:
    """Tokens of sentences, and which of them are words."""
    layer = ClipText.of(
        weights_of(arrays), num_heads=int(arrays["heads"]), tokens=arrays["text"].shape[1]
    )
    tokens, mask = layer(tf.constant(arrays["ids"], tf.int32))
    yield near("text", tokens, arrays["text"], EMBEDDING)
    yield near("text_mask", mask, arrays["text_mask"], EXACT)


HANDLERS = {"clip_text.npz": clip_file}
