"""STiCA's objective: crops of feature maps are found among crops, clips among sounds.

Within a modality, for crops in space and in time each:
- the second large crops of the two views find one another, among those of all clips;
- small crops of the second view find the large ones of the first.
Across modalities the clip of each view and its sound find one another. Keys are constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras import ops

from vatt.methods.stica.config import SPACE, TIME, Crops
from vatt.modeling.random import Randomness
from vatt.objectives.contrastive import diagonal_nce
from vatt.objectives.replica import ALONE, Replica
from vatt.typing import Tensor

CROSS_MODAL_TEMPERATURE = 0.1
# What a pair of crops is called in the published log, by kind.
LABELS = {SPACE: ("L-L", "S-L"), TIME: ("TL-TL", "TS-TL")}


@dataclass(frozen=True)
class CropEmbeddings:
    """Embeddings `[rows, d]` of the crops that are compared.

    Attributes:
      large: of the first view, all large ones.
      second: of the second view, its second large one; None where there is none.
      small: of the second view.
    """

    large: Sequence[Tensor] = ()
    second: Tensor | None = None
    small: Sequence[Tensor] = ()


@dataclass(frozen=True)
class Embeddings:
    """What the objective compares.

    Attributes:
      video: of the whole clip, by view.
      audio: of its sound, once for each view; empty where sound is not compared.
      crops: by kind.
    """

    video: Sequence[Tensor]
    audio: Sequence[Tensor]
    crops: Mapping[str, CropEmbeddings]


class CropLoss:
    """The weighted sum of losses within and across modalities (`vatt.methods.Objective`).

    Args:
      crops: what is cut, by kind.
      temperature: of the losses between crops.
      alpha: weight of the loss across modalities; that of crops is the rest.
    """

    def __init__(self, crops: Mapping[str, Crops], temperature: float, alpha: float):
        self.crops, self.temperature, self.alpha = crops, temperature, alpha
        pairs = [
            label
            for kind, labels in LABELS.items()
            for label, count in zip(labels, crops[kind].counts, strict=True)
            if count
        ]
        parts = ["crop_loss"] * bool(pairs) + ["av_loss"] * (alpha > 0)
        self.names = (*(f"crop_loss/{label}_loss" for label in pairs), *parts, "total_loss")

    def __call__(
        self,
        outputs: Embeddings,
        batch: Mapping[str, Tensor] | None = None,
        replica: Replica = ALONE,
        rng: Randomness | None = None,
    ) -> dict[str, Tensor]:
        """Returns the mean of each kind of comparison, `crop_loss`, `av_loss` and `total_loss`.

        Args:
          outputs: embeddings, compared as they are.
          batch: not used.
          replica: the way to rows of other replicas.
          rng: not used; what is random here, the model draws.
        """
        losses, total, count = {}, 0.0, 0
        for kind, labels in LABELS.items():
            found = outputs.crops.get(kind, CropEmbeddings())
            for label, pairs in zip(labels, self._within(found, replica), strict=True):
                if pairs:
                    losses[f"crop_loss/{label}_loss"] = sum(pairs) / len(pairs)
                    total, count = total + sum(pairs), count + len(pairs)
        mixed = []
        if count:
            losses["crop_loss"] = total / count
            mixed.append((1.0 - self.alpha) * losses["crop_loss"])
        if self.alpha > 0:
            across = [
                self._symmetric(video, audio, CROSS_MODAL_TEMPERATURE, replica)
                for video, audio in zip(outputs.video, outputs.audio, strict=True)
            ]
            losses["av_loss"] = sum(across) / len(across)
            mixed.append(self.alpha * losses["av_loss"])
        return {**losses, "total_loss": sum(mixed)}

    def _within(self, crops: CropEmbeddings, replica: Replica) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the losses of large crops with large ones, and of small ones with large ones."""
        large, small = [], []
        if crops.second is not None:
            large.append(self._symmetric(crops.second, crops.large[1], self.temperature, replica))
        if crops.small:
            for keys in crops.large:
                others = _elsewhere(keys, replica)
                small += [
                    diagonal_nce(queries, keys, others, self.temperature) for queries in crops.small
                ]
        return large, small

    def _symmetric(self, x: Tensor, y: Tensor, temperature: float, replica: Replica) -> Tensor:
        one = diagonal_nce(y, x, _elsewhere(x, replica), temperature)
        two = diagonal_nce(x, y, _elsewhere(y, replica), temperature)
        return (one + two) / 2.0


def _elsewhere(keys: Tensor, replica: Replica) -> list[Tensor]:
    return [replica.gather_others(ops.stop_gradient(keys))]
