"""Contrastive losses in float64, from explicit lists of pairs."""

from __future__ import annotations

import numpy as np


def unit(x):
    return x.astype("f8") / np.linalg.norm(x.astype("f8"), axis=-1, keepdims=True)


def asymmetric(one, two, mask, temperature=0.07):
    """Sums over explicit lists of pairs; absent clips are left out instead of being penalised."""
    one, two = unit(one), unit(two).reshape(len(one), -1, one.shape[1])
    losses = []
    for i in np.flatnonzero(mask):
        others = [j for j in range(len(one)) if mask[j]]
        forward = [one[i] @ two[j, k] for j in others for k in range(two.shape[1])]
        backward = [one[j] @ two[i, k] for j in range(len(one)) for k in range(two.shape[1])]
        own = [one[i] @ two[i, k] for k in range(two.shape[1])]
        total = np.exp(np.array(forward + backward) / temperature).sum()
        losses.append(np.log(total) - np.log(np.exp(np.array(own) / temperature).sum()))
    return np.mean(losses)


def symmetric(one, two, mask, temperature=0.07):
    """`one` is the masked modality with several rows per clip, `two` is video."""
    clips = len(mask)
    one, two = unit(one).reshape(clips, -1, one.shape[1]), unit(two)
    losses = []
    for i in np.flatnonzero(mask):
        towards = [one[i, m] @ two[c] for m in range(one.shape[1]) for c in range(clips)]
        back = [two[i] @ one[c, m] for c in range(clips) if mask[c] for m in range(one.shape[1])]
        own = np.exp(
            np.array([one[i, m] @ two[i] for m in range(one.shape[1])]) / temperature
        ).sum()
        for side in (towards, back):
            losses.append(np.log(np.exp(np.array(side) / temperature).sum()) - np.log(own))
    return 2 * np.mean(losses)
