"""How alike embeddings are: in the space that both sides have, by what evaluation ranks by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vatt.api.encoders import space_of
from vatt.api.results import Embedding
from vatt.errors import UserError
from vatt.modeling.pretraining import Pair


@dataclass(frozen=True)
class Compared:
    """A model as comparisons need it: its name, the fingerprint of its weights, its spaces."""

    name: str
    checkpoint: str
    pairs: Sequence[Pair]

    def similarity(
        self,
        a: Embedding | Sequence[Embedding],
        b: Embedding | Sequence[Embedding],
        space: str | None,
    ) -> np.ndarray:
        """See `Model.similarity`."""
        left, right = ([x] if isinstance(x, Embedding) else list(x) for x in (a, b))
        if not left or not right:
            raise UserError("similarity: an empty list, there is nothing to compare")
        keys = self._common_space(_modality(left), _modality(right), space)
        for one in (*left, *right):
            if one.checkpoint != self.checkpoint:
                raise UserError(
                    f"similarity: the embedding of '{one.source}' is of other weights than "
                    f"{self.name}: numbers of two models cannot be compared"
                )
        vectors = [
            np.stack([one.vector(key) for one in side])
            for side, key in zip((left, right), keys, strict=True)
        ]
        table = vectors[0] @ vectors[1].T
        single = tuple(i for i, x in enumerate((a, b)) if isinstance(x, Embedding))
        return table.squeeze(single)

    def _common_space(self, left: str, right: str, space: str | None) -> tuple[str | None, ...]:
        if left == right:
            return (space, space)
        for pair in self.pairs:
            keys = (space_of(pair, left), space_of(pair, right))
            if None not in keys and space in (None, *keys):
                return keys
        known = ", ".join(f"{pair.query} with {pair.target}" for pair in self.pairs)
        where = f" in {space!r}" if space else ""
        raise UserError(
            f"similarity: {self.name} does not compare {left} with {right}{where}; it compares "
            f"{known or 'nothing across modalities'}"
        )


def _modality(embeddings: Sequence[Embedding]) -> str:
    """The one modality of several embeddings."""
    found = sorted({one.modality for one in embeddings})
    if len(found) > 1:
        raise UserError(f"similarity: a list of {' and '.join(found)}; give each in its own list")
    return found[0]
