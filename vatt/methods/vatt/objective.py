"""VATT's objective: contrastive losses between pairs of modalities, weighted and averaged."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from vatt.errors import UserError
from vatt.methods.vatt import config as configuration
from vatt.modeling.random import Randomness
from vatt.objectives import contrastive
from vatt.objectives.replica import ALONE, Replica
from vatt.typing import Tensor

Embeddings = Mapping[str, Mapping[str, Tensor]]
Masks = Mapping[str, Tensor]

# pair -> (first modality, its embedding), (second modality, its embedding), weight field
PAIRS = {
    "vidtxt": (("video", "totxt"), ("text", "tovid"), "vid_txt_weight"),
    "vidaud": (("video", "toaud"), ("audio", "tovid"), "vid_aud_weight"),
    "audtxt": (("audio", "totxt"), ("text", "toaud"), "aud_txt_weight"),
}


@functools.singledispatch
def _nce(config: configuration.BaseLossConfig) -> contrastive.NCE:
    """Returns the loss of a configuration, by its class."""
    raise TypeError(f"nothing builds a loss from {type(config).__name__}")


@_nce.register
def _(config: configuration.SymmetricNCE) -> contrastive.NCE:
    return contrastive.SymmetricNCE(config.temperature, config.mask_normalization)


@_nce.register
def _(config: configuration.AsymmetricNCE) -> contrastive.NCE:
    return contrastive.AsymmetricNCE(config.temperature, config.mask_normalization)


class PairLosses:
    """One loss over the pairs of modalities with a positive weight.

    Raises:
      UserError: no pair has one.
    """

    def __init__(self, config: configuration.SymmetricNCE):
        self.name, self.loss_weight = config.name, config.loss_weight
        self._nce = _nce(config)
        weights = {pair: getattr(config, field) for pair, (_, _, field) in PAIRS.items()}
        self.weights = {pair: weight for pair, weight in weights.items() if weight > 0}
        if not self.weights:
            raise UserError(
                f"loss {self.name}: no pair has a positive weight; set at least one of them."
            )

    def __call__(self, embeddings: Embeddings, masks: Masks, replica: Replica) -> dict[str, Tensor]:
        """Returns `<pair>_loss` (times its weight) of active pairs and their mean `total`."""
        losses = {}
        for pair, weight in self.weights.items():
            (first, _), (second, _), _ = PAIRS[pair]
            one, two = (_embedding(embeddings, key, pair, self.name) for key in PAIRS[pair][:2])
            loss = self._nce(one, two, masks.get(first), masks.get(second), replica)
            losses[f"{pair}_loss"] = loss * weight
        return {**losses, "total": sum(losses.values()) / sum(self.weights.values())}


def _embedding(embeddings: Embeddings, key: tuple[str, str], pair: str, loss: str) -> Tensor:
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
    """The weighted sum of the configured losses (`vatt.methods.Objective`)."""

    def __init__(self, losses: list[PairLosses]):
        self.losses = losses

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the values a call returns."""
        pairs = (f"bridge_losses/{x.name}/{pair}_loss" for x in self.losses for pair in x.weights)
        return (*pairs, "bridge_losses/total_loss", "model_loss", "total_loss")

    def __call__(
        self,
        outputs: Embeddings,
        batch: Mapping[str, Tensor],
        replica: Replica = ALONE,
        rng: Randomness | None = None,
    ) -> dict[str, Tensor]:
        """Returns named scalar losses, this replica's share of the global values.

        Args:
          outputs: embeddings `{modality: {target: [rows, d]}}`, text rows clip-major.
          batch: of it `audio_mask` and `text_mask` `[clips]`, 1 where the clip has the modality;
            one that is absent means that all have it.
          replica: the way to rows of other replicas.
          rng: not used, nothing here is random.

        Returns:
          `bridge_losses/<name>/<pair>_loss` (times the pair's weight),
          `bridge_losses/total_loss`, `model_loss` and `total_loss`.

        Raises:
          UserError: a pair with positive weight needs an embedding the heads do not give.
        """
        names = ("audio_mask", "text_mask")
        masks = {n.removesuffix("_mask"): batch[n] for n in names if n in batch}
        logs, total = {}, 0.0
        for loss in self.losses:
            values = loss(outputs, masks, replica)
            total = total + values.pop("total") * loss.loss_weight
            logs |= {f"bridge_losses/{loss.name}/{pair}": value for pair, value in values.items()}
        return {**logs, "bridge_losses/total_loss": total, "model_loss": total, "total_loss": total}


def build(loss_config: configuration.LossStack) -> ContrastiveObjective:
    """Returns the objective of a loss stack configuration.

    Raises:
      UserError: settings that leave nothing to compute.
    """
    if not loss_config.bridge:
        choices = ", ".join(configuration.BaseLossConfig.variants())
        raise UserError(f"loss_config.bridge: empty; name at least one of {choices}.")
    return ContrastiveObjective([PairLosses(config) for config in loss_config.bridge])
