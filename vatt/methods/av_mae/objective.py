"""AV-MAE's objective: how far the predicted values of masked tokens are from the true ones."""

from __future__ import annotations

from collections.abc import Mapping

from keras import ops

from vatt.methods.av_mae import targets
from vatt.methods.av_mae.config import ModelConfig
from vatt.modeling.random import Randomness
from vatt.objectives.replica import ALONE, Replica
from vatt.typing import Tensor

EPSILON = 1e-8  # added to the sum of weights
SQUARES = "squares_of_weights"  # key of the model's outputs


class ReconstructionLoss:
    """The weighted sum of the modalities' losses (`vatt.methods.Objective`).

    As many tokens are masked in each row, so the mean of the replicas' losses is that of all rows.
    Beside the losses it names the mean squared distance of masked tokens, summed over their values,
    and the share of masked tokens.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Takes patches, targets and weights from the configuration of the model."""
        self._config, self._options = config, config.loss_config
        each = ("reconstruction/{}_loss", "mean_squared_error_{}", "mask_ratio_{}")
        names = [name.format(m) for name in each for m in config.modalities]
        l2 = ["l2_loss"] if self._options.l2_decay_factor else []
        self.names = (*names, *l2, "total_loss")

    def __call__(
        self,
        outputs: Mapping[str, Mapping[str, Tensor]],
        batch: Mapping[str, Tensor],
        replica: Replica = ALONE,
        rng: Randomness | None = None,
    ) -> dict[str, Tensor]:
        """Returns losses by name.

        Args:
          outputs: of each modality `predicted` `[rows, tokens, values]` and `masked` `[rows,
            tokens]`, 1 or 0; and where weights decay in the loss, the sum of their squares.
          batch: clips by modality.
          replica: not used.
          rng: not used, nothing here is random.
        """
        found: dict[str, Tensor] = {}
        for modality in self._config.modalities:
            target = targets.of(batch[modality], self._config.patch(modality), self._options)
            found |= self.of_modality(modality, target, outputs[modality])
        return self.total(found, outputs)

    def total(
        self, found: dict[str, Tensor], outputs: Mapping[str, Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Returns what `of_modality` found of all modalities, with the total of it."""
        losses = [
            getattr(self._options, f"{m}_weight") * found[f"reconstruction/{m}_loss"]
            for m in self._config.modalities
        ]
        if self._options.l2_decay_factor:
            found["l2_loss"] = 0.5 * self._options.l2_decay_factor * outputs[SQUARES]["sum"]
            losses.append(found["l2_loss"])
        return {**found, "total_loss": sum(losses)}

    def of_modality(
        self,
        modality: str,
        target: Tensor,
        outputs: Mapping[str, Tensor],
        rows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns the loss of one modality, before its weight, and what is named beside.

        Args:
          modality: its name.
          target: `[rows, tokens, values]`.
          outputs: as of a call.
          rows: weights of the rows, `[rows]`; None counts them alike.
        """
        masked = ops.cast(outputs["masked"], "float32")
        counted = ops.ones_like(masked) if rows is None else ops.ones_like(masked) * rows[:, None]
        mean = mean_distance(target, outputs["predicted"], masked * counted)
        loss = mean
        if self._options.loss_unmasked_tokens:
            loss = mean_distance(target, outputs["predicted"], counted)
        if self._options.normalise_by_output_dimension:
            loss = loss / target.shape[-1]
        return {
            f"reconstruction/{modality}_loss": loss,
            f"mean_squared_error_{modality}": mean,
            f"mask_ratio_{modality}": ops.mean(masked),
        }


def mean_distance(target: Tensor, predicted: Tensor, weights: Tensor) -> Tensor:
    """Returns the weighted mean of the squared distances of tokens.

    Args:
      target: `[rows, tokens, values]`.
      predicted: the same.
      weights: `[rows, tokens]`.
    """
    distance = ops.sum(ops.square(target - ops.cast(predicted, "float32")), axis=-1)
    return ops.sum(weights * distance) / (ops.sum(weights) + EPSILON)
