"""Embeddings of clips, gathered batch by batch: one vector for each, by key and variant."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import numpy as np

from vatt.evaluation import complete, metrics

VARIANTS: tuple[metrics.Variant, ...] = ("cosine", "embd")


class Embeddings:
    """What is kept of embeddings: windows are averaged as they come, parts of a clip at the end."""

    def __init__(self, keys: Mapping[str, str], *, published_single_window: bool = False) -> None:
        """Keeps nothing yet.

        Args:
          keys: of the embeddings that are kept, each with the key whose number of windows decides
            about `published_single_window`.
          published_single_window: leaves "embd" without normalisation where there is one window.
        """
        self._keys = dict(keys)
        self._published_single_window = published_single_window
        self._vectors: dict[tuple[str, str], list[np.ndarray]] = {}  # by key and variant

    def add(self, outputs: Mapping[str, np.ndarray], *, parts: bool = False) -> None:
        """Adds rows [rows, d] or [rows, windows, d] by key.

        Windows are averaged now, so that memory does not grow with their number. `parts`: rows may
        be parts of a clip, which `join` will put together.
        """
        one_window = {key: value.ndim == 2 or value.shape[1] == 1 for key, value in outputs.items()}
        for key, leading in self._keys.items():
            value = outputs[key].astype(np.float32)
            as_is = parts or (self._published_single_window and one_window[leading])
            cosine = metrics.window_mean(value, "cosine")
            if one_window[key] and not as_is:
                embd = cosine  # the same numbers: kept once
            else:
                embd = metrics.window_mean(value, "embd", normalized=not as_is)
            self._vectors.setdefault((key, "cosine"), []).append(cosine)
            self._vectors.setdefault((key, "embd"), []).append(embd)

    def join(self, ids: Sequence[str]) -> None:
        """Makes one vector of the rows of each id, in the order of ids; all were added as parts."""
        for (key, variant), pieces in self._vectors.items():
            means, _ = complete.mean_by_id(np.concatenate(pieces), ids)
            if variant == "embd":
                means = metrics.normalize(means)
            self._vectors[key, variant] = [means.astype(np.float32)]

    def all(self, key: str, variant: str) -> np.ndarray:
        """Returns the vectors of all clips. Lets the pieces go that they are made of."""
        pieces = self._vectors[key, variant]
        if len(pieces) > 1:
            whole = np.concatenate(pieces)
            for other in VARIANTS:
                others = self._vectors[key, other]
                if len(others) == len(pieces) and all(map(operator.is_, others, pieces)):
                    self._vectors[key, other] = [whole]
        return self._vectors[key, variant][0]
