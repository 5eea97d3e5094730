"""Contrastive losses between two modalities: NCE, and MIL-NCE for several candidates per clip.

`diagonal_nce` is that of one query per key, with any blocks of further negatives.

A pair of modalities is pulled together against every other clip of the *global* batch: each replica
compares its own rows with all columns, so that the mean over replicas is the value for the global
batch.

With several text candidates per clip the positives of a clip are all its candidates, summed inside
the logarithm (multiple instance learning): a candidate that does not belong to the clip costs
little.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras import ops

from vatt.errors import UserError
from vatt.objectives.replica import Replica
from vatt.typing import Tensor

MASKED = 1e9  # subtracted from the similarity to a sample without the modality
NORM_EPSILON = 1e-12
MASK_NORMALIZATIONS = ("global", "replica")


def l2_normalize(x: Tensor) -> Tensor:
    """Returns `x / |x|` along the last axis in float32; zero rows stay zero."""
    x = ops.cast(x, "float32")
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), NORM_EPSILON))


class NCE:
    """The base of both losses.

    Args:
      temperature: what similarities are divided by.
      mask_normalization: "global" divides by the valid clips of the whole batch, "replica" by
        those of each replica's share (published; not the masked mean when shares differ).

    Raises:
      UserError: another `mask_normalization`.
    """

    def __init__(self, temperature: float, mask_normalization: str = "global"):
        if mask_normalization not in MASK_NORMALIZATIONS:
            raise UserError(
                f"mask_normalization: {mask_normalization!r} is not one of {MASK_NORMALIZATIONS}."
            )
        self.temperature, self.mask_normalization = temperature, mask_normalization

    def __call__(
        self,
        one: Tensor,
        two: Tensor,
        mask_one: Tensor | None,
        mask_two: Tensor | None,
        replica: Replica,
    ) -> Tensor:
        """Returns the loss of a pair of modalities, a scalar, this replica's share.

        Args:
          one: embeddings `[clips * m, d]`, clip-major.
          two: embeddings `[clips * n, d]`, clip-major.
          mask_one: `[clips]`, 1 where the clip has the modality; None where all have it.
          mask_two: the same of the second modality.
          replica: the way to rows of other replicas.
        """
        raise NotImplementedError

    def _masked_mean(self, loss: Tensor, masks: list[Tensor | None], replica: Replica) -> Tensor:
        """Averages `loss`, `[clips]`, over the clips that have both modalities (0 if none has)."""
        for mask in masks:
            if mask is not None:
                mask = ops.cast(mask, "float32")
                everyone = replica.gather(mask) if self.mask_normalization == "global" else mask
                clips = ops.cast(ops.shape(everyone)[0], "float32")
                valid = ops.sum(everyone)
                # No valid clip: a factor of 0 and no division by 0. Values that are not finite stay
                # visible.
                loss = (
                    loss
                    * mask
                    * (clips * ops.cast(valid > 0, "float32") / ops.maximum(valid, 1e-9))
                )
        return ops.mean(loss)


class AsymmetricNCE(NCE):
    """One softmax per clip over both directions together.

    For clip i the denominator runs over the similarities of its first embedding with every second
    embedding *and* of its second embeddings with every first one, so that its own pairs are in it
    twice (published behaviour). Only the mask of the second modality counts.
    """

    def __call__(
        self,
        one: Tensor,
        two: Tensor,
        mask_one: Tensor | None,
        mask_two: Tensor | None,
        replica: Replica,
    ) -> Tensor:
        """Returns the loss between `one` `[clips, d]` and `two` `[clips * candidates, d]`."""
        one, two = l2_normalize(one), l2_normalize(two)
        clips, width = ops.shape(one)[0], one.shape[-1]
        candidates = ops.reshape(two, (clips, -1, width))  # [clips, candidates, d]
        own = ops.sum(one[:, None] * candidates, axis=-1) / self.temperature  # [clips, candidates]
        forward = (
            ops.matmul(one, ops.transpose(replica.gather(two))) / self.temperature
        )  # [clips, all candidates]
        backward = ops.matmul(two, ops.transpose(replica.gather(one))) / self.temperature
        backward = ops.reshape(backward, (clips, -1))  # [clips, candidates * all clips]
        if mask_two is not None:
            absent = 1.0 - ops.cast(mask_two, "float32")
            columns = ops.repeat(replica.gather(absent), candidates.shape[1], axis=0)
            forward = forward - MASKED * columns[None]
            backward = backward - MASKED * absent[:, None]
        denominator = ops.logaddexp(ops.logsumexp(forward, axis=1), ops.logsumexp(backward, axis=1))
        return self._masked_mean(denominator - ops.logsumexp(own, axis=1), [mask_two], replica)


class SymmetricNCE(NCE):
    """A softmax per clip and direction, added; each clip's own pairs are once in each denominator.

    In both directions the penalty for an absent modality goes to the candidates.
    """

    def __call__(
        self,
        one: Tensor,
        two: Tensor,
        mask_one: Tensor | None,
        mask_two: Tensor | None,
        replica: Replica,
    ) -> Tensor:
        """Returns the loss between `one` `[clips * m, d]` and `two` `[clips * n, d]`."""
        one, two = l2_normalize(one), l2_normalize(two)
        clips = self._clips(one, two, mask_one, mask_two)
        own = ops.matmul(
            ops.reshape(one, (clips, -1, one.shape[-1])),
            ops.transpose(ops.reshape(two, (clips, -1, two.shape[-1])), (0, 2, 1)),
        )  # [clips, m, n]
        positive = ops.logsumexp(ops.reshape(own, (clips, -1)) / self.temperature, axis=1)
        loss = self._denominator(one, two, mask_two, clips, replica) - positive
        loss = loss + self._denominator(two, one, mask_one, clips, replica) - positive
        return self._masked_mean(loss, [mask_one, mask_two], replica)

    def _denominator(
        self, queries: Tensor, keys: Tensor, key_mask: Tensor | None, clips: int, replica: Replica
    ) -> Tensor:
        """Returns, for each own clip, the log-sum-exp of its queries with the keys of all clips."""
        # [clips * m, all clips * n]
        scores = ops.matmul(queries, ops.transpose(replica.gather(keys)))
        if key_mask is not None:
            absent = replica.gather(1.0 - ops.cast(key_mask, "float32"))
            scores = scores - MASKED * ops.repeat(absent, keys.shape[0] // clips, axis=0)[None]
        return ops.logsumexp(ops.reshape(scores / self.temperature, (clips, -1)), axis=1)

    @staticmethod
    def _clips(one: Tensor, two: Tensor, mask_one: Tensor | None, mask_two: Tensor | None) -> int:
        """Returns the clips of this replica: text has several rows per clip, the others one."""
        sizes = [x.shape[0] for x in (one, two, mask_one, mask_two) if x is not None]
        if None in sizes:
            raise ValueError(
                "symmetric NCE needs static batch sizes (drop_remainder=True in the input pipeline)"
            )
        return min(sizes)


def diagonal_nce(
    queries: Tensor, keys: Tensor, negatives: Sequence[Tensor], temperature: float
) -> Tensor:
    """Returns the mean over rows i of `-log softmax([q K^T, q M^T] / temperature)[i, i]`.

    Embeddings are used as they are given. Keys and negatives are constants: gradients reach queries
    alone.

    Args:
      queries: `[rows, d]`.
      keys: `[rows, d]`; that of the same row is the positive, the others are negatives.
      negatives: blocks `[any, d]` of further negatives; one that is given twice counts twice.
      temperature: what similarities are divided by.
    """
    columns = ops.stop_gradient(ops.concatenate([keys, *negatives], axis=0))
    scores = ops.matmul(queries, ops.transpose(columns)) / temperature
    own = ops.sum(queries * columns[: keys.shape[0]], axis=-1) / temperature
    return ops.mean(ops.logsumexp(scores, axis=-1) - own)
