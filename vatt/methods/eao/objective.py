"""The combinatorial loss: every modality is found by every other one, and by pairs of them.

For each of the comparisons that have a weight, clips find their own partner among those of the
global batch, and partners their clips; only clips that have all modalities of the comparison are in
it. The loss is the weighted mean of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from keras import ops

from vatt.methods.eao.config import COMPARED, JOINT, ModelConfig
from vatt.methods.eao.parts import unit
from vatt.modeling.random import Randomness
from vatt.objectives.contrastive import MASKED
from vatt.objectives.replica import ALONE, Replica
from vatt.typing import Tensor

MARGIN = 0.001  # of MMS
LEFT_OUT = "comparisons_without_clips"


class CombinatorialLoss:
    """The weighted mean of contrastive losses (`vatt.methods.Objective`).

    A comparison of which no clip of the batch has all modalities is left out of the mean, its loss
    is 0, and `LEFT_OUT` says how many of them there were.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Takes the losses, and which embeddings there are, from the configuration of the model."""
        loss = config.loss_config
        softmax = loss.contrastive_loss == "NormSoftmax"
        self.temperature = loss.temperature if softmax else 1.0
        self.margin = 0.0 if softmax else MARGIN
        joint = config.joint if config.cross_modal else ()
        there = {*config.modalities, *joint}
        self.weights = {n: w for n, w in loss.weights.items() if there.issuperset(COMPARED[n])}
        self.names = (*(_name(name) for name in self.weights), LEFT_OUT, "total_loss")

    def __call__(
        self,
        outputs: Mapping[str, Tensor],
        batch: Mapping[str, Tensor] | None = None,
        replica: Replica = ALONE,
        rng: Randomness | None = None,
    ) -> dict[str, Tensor]:
        """Returns the loss of each comparison, their weighted mean, and how many were left out.

        Args:
          outputs: embeddings `[rows, d]` by name, "text_embed", "va_embed" and so on, and which
            rows have a modality, `[rows]`, "text_nonempty_input_mask" and so on.
          batch: not used.
          replica: the way to rows of other replicas.
          rng: not used, nothing here is random.
        """
        sides = list(dict.fromkeys(side for name in self.weights for side in COMPARED[name]))
        own = {side: unit(outputs[f"{side}_embed"]) for side in sides}
        everyone = {side: replica.gather(x) for side, x in own.items()}
        present = {
            m: ops.cast(outputs[f"{m}_nonempty_input_mask"], "float32")
            for m in dict.fromkeys(m for side in sides for m in JOINT.get(side, (side,)))
        }
        present_everywhere = {m: replica.gather(x) for m, x in present.items()}
        found, total, weights, left_out = {}, 0.0, 0.0, 0.0
        for name, weight in self.weights.items():
            one, two = COMPARED[name]
            both = [m for side in (one, two) for m in JOINT.get(side, (side,))]
            mask, masks = (_product(there, both) for there in (present, present_everywhere))
            count = ops.sum(masks)
            forward = self.direction(own[one], everyone[two], mask, masks, replica)
            backward = self.direction(own[two], everyone[one], mask, masks, replica)
            # Every replica's share is of all rows: their mean is the mean over clips.
            loss = (forward + backward) * (replica.count / ops.maximum(count, 1.0))
            here = ops.cast(count > 0, "float32")
            found[_name(name)] = loss
            total, weights = total + weight * here * loss, weights + weight * here
            left_out = left_out + (1.0 - here)
        found[LEFT_OUT] = left_out
        found["total_loss"] = total / ops.maximum(weights, 1e-12)
        return found

    def direction(
        self, queries: Tensor, keys: Tensor, mask: Tensor, masks: Tensor, replica: Replica
    ) -> Tensor:
        """Returns the sum over own clips of `-log softmax(scores)` at their partner.

        Args:
          queries: `[rows, d]`.
          keys: of all replicas, `[all, d]`; the partner of a query has its global row.
          mask: 1 for own clips that count, `[rows]`.
          masks: the same of all replicas, `[all]`.
          replica: which rows are its own.
        """
        rows = queries.shape[0]
        scores = ops.matmul(queries, ops.transpose(keys))  # [rows, all]
        places = ops.arange(keys.shape[0], dtype="int32")[None]
        own = ops.arange(rows, dtype="int32") + replica.index * rows
        partner = ops.cast(places == own[:, None], scores.dtype)  # [rows, all], 1 at it
        scores = (scores - self.margin * partner) / self.temperature
        # Subtracted before the sum: of a partner that is found, hardly anything would be left.
        scores = scores - ops.sum(scores * partner, axis=-1, keepdims=True)
        scores = scores - MASKED * (1.0 - masks)[None]
        return ops.sum(mask * ops.logsumexp(scores, axis=-1))


def _product(present: Mapping[str, Tensor], modalities: list[str]) -> Tensor:
    """Returns 1 for rows that have all of these modalities."""
    result = present[modalities[0]]
    for modality in modalities[1:]:
        result = result * present[modality]
    return result


def _name(comparison: str) -> str:
    return f"combinatorial/{comparison}_loss"
