"""Objectives of fine-tuning: one label per clip, or any number of labels per clip.

    loss = softmax_loss(logits, labels)                                   # one of the classes
    loss = sigmoid_loss(logits, labels, count_labels(labels, replica))    # any of the classes
    loss = sigmoid_loss(logits, labels, rarity=False)                     # all rows weigh alike

Which of them, the card of the set says (`multi_label`). Published: videos have one label, sounds
any number.

Both return this replica's share: with equal local batches the mean over replicas is the loss of the
global batch. They work in float32 whatever the precision of the logits.
"""

from __future__ import annotations

from keras import ops

from vatt.objectives.replica import ALONE, Replica
from vatt.typing import Tensor


def softmax_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the softmax cross-entropy, a scalar, averaged over the rows.

    Args:
      logits: `[batch, classes]`.
      labels: `[batch, classes]`, one-hot; smoothed or mixed ones are taken as they are.

    Raises:
      ValueError: shapes that differ.
    """
    logits, labels = _float32(logits, labels)
    return -ops.mean(ops.sum(labels * ops.log_softmax(logits, axis=-1), axis=-1))


def sigmoid_loss(
    logits: Tensor, labels: Tensor, label_counts: Tensor | None = None, *, rarity: bool = True
) -> Tensor:
    """Returns the sigmoid cross-entropy, a scalar: summed over classes, mean over weighted rows.

    With `rarity` a row weighs as much as its labels do on average, and a label weighs 1 / (its
    count in the batch). A row without labels weighs 0 but counts in the mean over rows (published:
    NaN). Without, each row weighs 1.

    Args:
      logits: `[batch, classes]`.
      labels: `[batch, classes]`, many-hot; fractions (mixup) count as such.
      label_counts: `[classes]`, see `count_labels`; None counts in `labels` (published, also with
        several replicas).
      rarity: whether rows weigh by how rare their labels are (VATT), or alike (AV-MAE).

    Raises:
      ValueError: shapes that differ.
    """
    logits, labels = _float32(logits, labels)
    # Without max() or abs(), whose derivative is wrong where a logit is 0.
    entropy = labels * ops.softplus(-logits) + (1.0 - labels) * ops.softplus(logits)
    of_rows = ops.sum(entropy, axis=-1)  # [batch]
    if not rarity:
        return ops.mean(of_rows)
    counts = count_labels(labels) if label_counts is None else ops.cast(label_counts, "float32")
    rare = _divide(1.0, counts)  # [classes]
    weights = _divide(ops.sum(labels * rare, axis=-1), ops.sum(labels, axis=-1))  # [batch]
    return ops.mean(weights * of_rows)


def count_labels(labels: Tensor, replica: Replica = ALONE) -> Tensor:
    """Returns how often each class occurs in the global batch, float32 `[classes]`.

    Args:
      labels: `[batch, classes]`, this replica's rows.
      replica: the way to rows of other replicas.
    """
    return ops.sum(replica.gather(ops.cast(labels, "float32")), axis=0)


def _divide(numerator: Tensor, count: Tensor) -> Tensor:
    """Returns the quotient, 0 where `count` is 0."""
    present = ops.greater(count, 0.0)
    return ops.where(present, numerator / ops.where(present, count, 1.0), 0.0)


def _float32(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if len(logits.shape) != 2 or len(labels.shape) != 2 or logits.shape[1] != labels.shape[1]:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; "
            "accepted: [batch, classes] for both"
        )
    return ops.cast(logits, "float32"), ops.cast(labels, "float32")
