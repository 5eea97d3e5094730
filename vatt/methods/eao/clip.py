"""CLIP's text model from the file of its published weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from vatt.errors import CheckpointError
from vatt.modeling.backbones.clip_text import ClipText
from vatt.modeling.typing import DType
from vatt.training.torch_checkpoints import TorchCheckpoint

FIELD = "model_config.clip_text_weights"


class _Weights(Mapping[str, np.ndarray]):
    """Tensors of a file, each read when it is asked for."""

    def __init__(self, checkpoint: TorchCheckpoint) -> None:
        self._checkpoint = checkpoint

    def __getitem__(self, name: str) -> np.ndarray:
        if not self._checkpoint.has_tensor(name):
            raise KeyError(name)
        return self._checkpoint.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._checkpoint.shapes)

    def __len__(self) -> int:
        return len(self._checkpoint.shapes)


def read(path: str, tokens: int, width: int, dtype: DType) -> ClipText:
    """Returns the frozen layer of a file of PyTorch with CLIP's weights by their published names.

    Args:
      path: of the file, the state dictionary of a CLIP model (docs/methods/eao.md).
      tokens: that a sentence becomes.
      width: that they must have.
      dtype: of the layer.

    Raises:
      CheckpointError: not such a file, or one of another width.
    """
    weights = _Weights(TorchCheckpoint(path))
    try:
        layer = ClipText.of(weights, tokens=tokens, dtype=dtype)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{FIELD}: {path} does not hold the text model of CLIP ({error})"
        ) from error
    if layer.d_out != width:
        raise CheckpointError(
            f"{FIELD}: {path} gives tokens {layer.d_out} wide, expected "
            f"model_config.text_embed_dim, which is {width}"
        )
    return layer
