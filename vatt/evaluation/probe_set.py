"""Features and labels of one fold, checked before a classifier is trained on them."""

from __future__ import annotations

import dataclasses

import numpy as np

from vatt.errors import DataError
from vatt.evaluation.scoring import checked_labels


@dataclasses.dataclass(frozen=True)
class ProbeSet:
    """Checked features and labels of one split of one data set; made by `probe_set`.

    Attributes:
      name: data set, for messages.
      train: float32 [rows, d].
      train_labels: int64 [rows], or uint8 [rows, classes] with `multi_label`.
      groups: int64 [rows], the clip of each training row.
      test: float32 [clips, windows, d].
      test_labels: like `train_labels`, by clip.
      classes: number of classes, whether or not all occur.
      multi_label: whether a clip may have any number of classes.
    """

    name: str
    train: np.ndarray
    train_labels: np.ndarray
    groups: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    classes: int
    multi_label: bool


def probe_set(
    name: str,
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    multi_label: bool = False,
    groups: np.ndarray | None = None,
) -> ProbeSet:
    """Checks features and labels.

    Args:
      name: data set, and split if it has several, as messages shall call it.
      train: [rows, d], or [rows, 1, d]: one row per clip and augmentation.
      train_labels: one-hot or, with `multi_label`, many-hot [rows, classes].
      test: [clips, windows, d] or [clips, d].
      test_labels: [clips, classes].
      multi_label: whether clips may have several labels or none, as the card of the set says.
      groups: clip number of each training row; None if every row is a clip of its own. Rows of
        one clip are never held out from each other.

    Raises:
      DataError: no clip, features that are not finite, clips without a label or with several, or
        fewer than two classes in the training split.
      ValueError: shapes that do not fit together.
    """
    train, test = (np.asarray(x, np.float32) for x in (train, test))
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    if train.ndim == 3 and train.shape[1] == 1:
        train = train[:, 0]
    if test.ndim == 2:
        test = test[:, None]
    groups = np.arange(len(train)) if groups is None else np.asarray(groups, np.int64)
    shapes = f"features {train.shape} and {test.shape}, groups {groups.shape}"
    if train.ndim != 2 or test.ndim != 3 or train.shape[-1] != test.shape[-1]:
        raise ValueError(f"{name}: {shapes}; accepted: [rows, d] and [clips, windows, d]")
    expected = (len(train), train_labels.shape[-1]), (len(test), train_labels.shape[-1])
    if (train_labels.shape, test_labels.shape) != expected or groups.shape != (len(train),):
        raise ValueError(
            f"{name}: {shapes}, labels {train_labels.shape} and {test_labels.shape}; accepted: "
            "labels [rows, classes] and [clips, classes], groups [rows]"
        )
    _check_finite(name, "training", train)
    _check_finite(name, "test", test)
    train_labels = checked_labels(name, "training", train_labels, multi_label)
    test_labels = checked_labels(name, "test", test_labels, multi_label)
    used = train_labels.any(axis=0).sum() if multi_label else len(np.unique(train_labels))
    if used < 2:
        raise DataError(
            f"{name}: the training split has clips of {used} class; a probe needs two or more"
        )
    groups = np.unique(groups, return_inverse=True)[1]
    if len(groups) and groups.max() < 1:
        raise DataError(f"{name}: the training split has one clip; a probe needs two or more")
    classes = expected[0][1]
    return ProbeSet(
        name, train, train_labels, groups, test, test_labels, classes, bool(multi_label)
    )


def _check_finite(name: str, split: str, features: np.ndarray) -> None:
    if not features.size:
        raise DataError(f"{name}: the {split} split has no clip, nothing to probe")
    broken = ~np.isfinite(features).all(axis=tuple(range(1, features.ndim)))
    if broken.any():
        raise DataError(
            f"{name}: features of {broken.sum()} of {len(broken)} {split} clips are not finite, "
            f"the first is number {broken.argmax()}; the checkpoint may be that of a diverged run"
        )
