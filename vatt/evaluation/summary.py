"""An evaluation in a few lines: the most telling figures of each set beside those of guessing.

lines(measures)         # ["toy_retrieval, test, 320 clips: ..._R10 0.82 (chance 0.031)", ...]
too_small(measures)     # sentences about sets on which models can hardly be told apart
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vatt.configs import sides
from vatt.evaluation import measures, metrics
from vatt.evaluation.measures import Measure

# What the line of a classifier shows.
CLASSIFIER_FIGURES = (
    "top_1_accuracy",
    "top_5_accuracy",
    "sklearn_mAP",
    "sklearn_AUC",
    "sklearn_d-prime",
)
FEW_CLIPS = 30  # of fewer, a single one moves a share by more than three points


def lines(found: Sequence[Measure]) -> list[str]:
    """Returns a line for each set, fold and number of clips: figures by their published names.

    Of retrieval those that look for videos, alone or with more, of probes the means of the linear
    one.
    """
    by_clips: dict[str, list[str]] = {}
    for name, measure in telling(found):
        parts = [measure.set, fold_of(measure), counts(measure)]
        by_clips.setdefault(", ".join(filter(None, parts)), []).append(_figure(name, measure))
    return [f"{clips}: {'  '.join(figures)}" for clips, figures in by_clips.items()]


def telling(found: Sequence[Measure]) -> list[tuple[str, Measure]]:
    """Returns the most telling measures, each with its published name."""
    named = zip(measures.own_names(found), found, strict=True)
    return [(name, measure) for name, measure in named if _is_telling(measure)]


def fold_of(measure: Measure) -> str:
    """What was measured of a set: "test", "fold 2 (test_2)", "mean over folds"."""
    if measure.fold:
        return f"fold {measure.fold} ({measure.split})"
    folded = measure.task in measures.PROBES or measure.spread is not None
    return measure.split or ("mean over folds" if folded else "")


def counts(measure: Measure) -> str:
    """How many clips are behind a figure: "320 clips", or "6 queries in 12 clips"."""
    if measure.samples is None:
        return ""
    if measure.gallery in (None, measure.samples):
        return f"{measure.samples:,.0f} clip{'s' * (measure.samples != 1)}"
    queries = f"{measure.samples:,.0f} {'query' if measure.samples == 1 else 'queries'}"
    return f"{queries} in {measure.gallery:,.0f} clip{'s' * (measure.gallery != 1)}"


def too_small(found: Iterable[Measure]) -> list[str]:
    """Returns a sentence for each set that is too small for its figures to say much.

    The recall in a gallery that is no larger than the number of results is 1 whatever the model.
    """
    told: dict[str, None] = {}
    for measure in found:
        if measure.task == measures.GEOMETRY or measure.split == "train" or not measure.samples:
            continue
        where = ", ".join(filter(None, (measure.set, fold_of(measure))))
        sure = [k for k in metrics.RECALL_CUTS if 0 < (measure.gallery or 0) <= k]
        if measure.name in (f"R{k}" for k in sure):
            recalls = " and ".join(f"R@{k}" for k in sure)
            things = f"{measure.gallery} {measure.target}{'s' * (measure.gallery != 1)}"
            are = "is" if len(sure) == 1 else "are"
            told[f"{where}: {recalls} {are} 1 whatever the model, with {things} to find"] = None
        if measure.samples < FEW_CLIPS:
            told[
                f"{where}: {counts(measure)} are too few to tell models apart, one of them is "
                f"{100 / measure.samples:.0f} % of all"
            ] = None
    return list(told)


def _figure(name: str, measure: Measure) -> str:
    spread = "" if measure.spread is None else f" ± {measure.spread:.2g}"
    chance = "" if measure.chance is None else f" (chance {measure.chance:.4g})"
    return f"{name} {measure.value:.4g}{spread}{chance}"


def _is_telling(measure: Measure) -> bool:
    if measure.task == measures.RETRIEVAL:
        searched = "video" in sides.modalities(measure.target) and measure.variant == measures.MAIN
        return searched and measure.name in ("R10", "MedianRank")
    if measure.task == measures.LINEAR:
        return not measure.split and measure.name in ("top_1_accuracy", "mAP")
    return measure.task == measures.CLASSIFICATION and measure.name in CLASSIFIER_FIGURES
