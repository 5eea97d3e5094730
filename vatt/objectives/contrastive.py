"""Contrastive objectives of VATT: NCE for audio, MIL-NCE for several text candidates per clip.

Both published loss classes. A pair of modalities is pulled together against every other clip of the
*global* batch: `gather` returns a tensor concatenated over replicas, and each replica computes its
own rows against all columns, so that the mean over replicas is the value for the global batch.

With several text candidates per clip the positives of a clip are all its candidates, summed inside
the logarithm (multiple instance learning): a candidate that does not belong to the clip costs
little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from vatt.errors import UserError, nearest

MASKED = 1e9  # subtracted from the similarity to a sample without the modality
NORM_EPSILON = 1e-12

Gather = Callable[[Any], Any]
Embeddings = Mapping[str, Mapping[str, Any]]
Masks = Mapping[str, Any]

# pair -> (first modality, its embedding, second modality, its embedding, weight field)
PAIRS = {
    "vidtxt": (("video", "totxt"), ("text", "tovid"), "vid_txt_weight"),
    "vidaud": (("video", "toaud"), ("audio", "tovid"), "vid_aud_weight"),
    "audtxt": (("audio", "totxt"), ("text", "toaud"), "aud_txt_weight"),
}


def identity(x: Any) -> Any:
    """The gather of a single replica."""
    return x


def l2_normalize(x: Any) -> Any:
    """Returns `x / |x|` along the last axis in float32; zero rows stay zero."""
    x = ops.cast(x, "float32")
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), NORM_EPSILON))


class _PairLoss:
    """What both loss classes share: active pairs, weights, masks, and averaging over the batch."""

    def __init__(self, config: Any):
        self.name = config.name
        self.loss_weight = config.loss_weight
        self.temperature = config.temperature
        self.weights = {pair: getattr(config, field) for pair, (_, _, field) in PAIRS.items()}
        self.weights = {pair: weight for pair, weight in self.weights.items() if weight > 0}
        self.mask_normalization = getattr(config, "mask_normalization", "global")
        choices = ("global", "replica")
        if self.mask_normalization not in choices:
            raise UserError(
                f"mask_normalization: {self.mask_normalization!r} is not one of {choices}."
            )
        if not self.weights:
            raise UserError(
                f"loss {self.name}: no pair has a positive weight; set at least one of them."
            )

    def __call__(self, embeddings: Embeddings, masks: Masks, gather: Gather) -> dict[str, Any]:
        """Returns `<pair>_loss` (times its weight) of active pairs and their mean `total`."""
        losses = {}
        for pair, weight in self.weights.items():
            (first, _), (second, _), _ = PAIRS[pair]
            one, two = (_embedding(embeddings, key, pair, self.name) for key in PAIRS[pair][:2])
            loss = self.pair(one, two, masks.get(first), masks.get(second), gather)
            losses[f"{pair}_loss"] = loss * weight
        return {**losses, "total": sum(losses.values()) / sum(self.weights.values())}

    def pair(self, one: Any, two: Any, mask_one: Any, mask_two: Any, gather: Gather) -> Any:
        """Returns the loss of one pair, this replica's share."""
        raise NotImplementedError

    def _masked_mean(self, loss: Any, masks: list[Any], gather: Gather) -> Any:
        """Averages `loss`, `[clips]`, over the clips that have both modalities (0 if none has)."""
        for mask in masks:
            if mask is not None:
                mask = ops.cast(mask, "float32")
                everyone = gather(mask) if self.mask_normalization == "global" else mask
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


class AsymmetricNCE(_PairLoss):
    """One softmax per clip over both directions together.

    For clip i the denominator runs over the similarities of its first embedding with every second
    embedding *and* of its second embeddings with every first one, so that its own pairs are in it
    twice (published behaviour). Only the mask of the second modality counts.
    """

    def pair(self, one: Any, two: Any, mask_one: Any, mask_two: Any, gather: Gather) -> Any:
        """Returns the loss between `one` `[clips, d]` and `two` `[clips * candidates, d]`."""
        one, two = l2_normalize(one), l2_normalize(two)
        clips, width = ops.shape(one)[0], one.shape[-1]
        candidates = ops.reshape(two, (clips, -1, width))  # [clips, candidates, d]
        own = ops.sum(one[:, None] * candidates, axis=-1) / self.temperature  # [clips, candidates]
        forward = (
            ops.matmul(one, ops.transpose(gather(two))) / self.temperature
        )  # [clips, all candidates]
        backward = ops.matmul(two, ops.transpose(gather(one))) / self.temperature
        backward = ops.reshape(backward, (clips, -1))  # [clips, candidates * all clips]
        if mask_two is not None:
            absent = 1.0 - ops.cast(mask_two, "float32")
            columns = ops.repeat(gather(absent), candidates.shape[1], axis=0)
            forward = forward - MASKED * columns[None]
            backward = backward - MASKED * absent[:, None]
        denominator = ops.logaddexp(ops.logsumexp(forward, axis=1), ops.logsumexp(backward, axis=1))
        return self._masked_mean(denominator - ops.logsumexp(own, axis=1), [mask_two], gather)


class SymmetricNCE(_PairLoss):
    """A softmax per clip and direction, added; each clip's own pairs are once in each denominator.

    In both directions the penalty for an absent modality goes to the candidates.
    """

    def pair(self, one: Any, two: Any, mask_one: Any, mask_two: Any, gather: Gather) -> Any:
        """Returns the loss between `one` `[clips * m, d]` and `two` `[clips * n, d]`."""
        one, two = l2_normalize(one), l2_normalize(two)
        clips = self._clips(one, two, mask_one, mask_two)
        own = ops.matmul(
            ops.reshape(one, (clips, -1, one.shape[-1])),
            ops.transpose(ops.reshape(two, (clips, -1, two.shape[-1])), (0, 2, 1)),
        )  # [clips, m, n]
        positive = ops.logsumexp(ops.reshape(own, (clips, -1)) / self.temperature, axis=1)
        loss = self._denominator(one, two, mask_two, clips, gather) - positive
        loss = loss + self._denominator(two, one, mask_one, clips, gather) - positive
        return self._masked_mean(loss, [mask_one, mask_two], gather)

    def _denominator(
        self, queries: Any, keys: Any, key_mask: Any, clips: int, gather: Gather
    ) -> Any:
        """Returns, for each own clip, the log-sum-exp of its queries with the keys of all clips."""
        scores = ops.matmul(queries, ops.transpose(gather(keys)))  # [clips * m, all clips * n]
        if key_mask is not None:
            absent = gather(1.0 - ops.cast(key_mask, "float32"))
            scores = scores - MASKED * ops.repeat(absent, keys.shape[0] // clips, axis=0)[None]
        return ops.logsumexp(ops.reshape(scores / self.temperature, (clips, -1)), axis=1)

    @staticmethod
    def _clips(one: Any, two: Any, mask_one: Any, mask_two: Any) -> int:
        """Returns the clips of this replica: text has several rows per clip, the others one."""
        sizes = [x.shape[0] for x in (one, two, mask_one, mask_two) if x is not None]
        if None in sizes:
            raise ValueError(
                "symmetric NCE needs static batch sizes (drop_remainder=True in the input pipeline)"
            )
        return min(sizes)


def _embedding(embeddings: Embeddings, key: tuple[str, str], pair: str, loss: str) -> Any:
    modality, target = key
    try:
        return embeddings[modality][target]
    except KeyError:
        present = sorted(f"{m}.{t}" for m, targets in embeddings.items() for t in targets)
        raise UserError(
            f"loss {loss}: the pair {pair} needs {modality}.{target}, which no head gives "
            f"(they give {', '.join(present)}). Set {PAIRS[pair][2]} to 0 or choose other heads."
        ) from None


class ContrastiveObjective:
    """The weighted sum of the configured losses."""

    def __init__(self, losses: list[_PairLoss]):
        self.losses = losses

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the values a call returns."""
        pairs = (f"bridge_losses/{x.name}/{pair}_loss" for x in self.losses for pair in x.weights)
        return (*pairs, "bridge_losses/total_loss", "model_loss", "total_loss")

    def __call__(
        self, embeddings: Embeddings, masks: Masks | None = None, gather: Gather = identity
    ) -> dict[str, Any]:
        """Returns named scalar losses, this replica's share of the global values.

        Args:
            embeddings: `{modality: {target: [rows, d]}}`, text rows clip-major.
            masks: `{modality: [clips]}`, 1 where the clip has the modality; an absent entry means
                all have it.
            gather: concatenates a float32 tensor over replicas, replica-major.

        Returns:
            `bridge_losses/<name>/<pair>_loss` (times the pair's weight),
            `bridge_losses/total_loss`, `model_loss` and `total_loss`.

        Raises:
            UserError: a pair with positive weight needs an embedding the heads do not give.
        """
        masks = masks or {}
        logs, total = {}, 0.0
        for loss in self.losses:
            values = loss(embeddings, masks, gather)
            total = total + values.pop("total") * loss.loss_weight
            logs |= {f"bridge_losses/{loss.name}/{pair}": value for pair, value in values.items()}
        return {**logs, "bridge_losses/total_loss": total, "model_loss": total, "total_loss": total}


LOSSES = {"asymmetric_nce": AsymmetricNCE, "symmetric_nce": SymmetricNCE}


def build(loss_config: Any) -> ContrastiveObjective:
    """Returns the objective of a loss stack config (field `bridge`).

    Raises:
        UserError: unknown loss name or settings that leave nothing to compute.
    """
    losses = []
    for index, config in enumerate(loss_config.bridge):
        if config.name not in LOSSES:
            raise UserError(
                f"loss_config.bridge[{index}].name: {config.name!r} is not one of {sorted(LOSSES)}."
                f"{nearest(config.name, LOSSES)}"
            )
        losses.append(LOSSES[config.name](config))
    if not losses:
        raise UserError(f"loss_config.bridge: empty; name at least one of {sorted(LOSSES)}.")
    return ContrastiveObjective(losses)
