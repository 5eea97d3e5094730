"""Zero-shot classification: a clip gets the class whose name, as a sentence, is nearest to it.

    sentences = prompts(card.labels, TEMPLATES["video"])    # [classes][prompts], for the text tower
    result = zero_shot("toy_actions", clips, class_prompts, labels, modality="video")
    published_names(result.measures)        # {"toy_actions_zero_shot_embd_top_1_accuracy": .4, ...}

Nothing is trained: what counts is whether clips and class names meet in the common space. The
prompts of a class are normalised, averaged and normalised again. Windows of clips are averaged in
the two ways of retrieval (`vatt.evaluation.metrics.window_mean`), "embd" and "cosine".
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from vatt.errors import UserError
from vatt.evaluation import measures, metrics, scoring
from vatt.evaluation.measures import Measure

# Sentences around the name of a class, "{}". More than one makes the class less dependent on a
# wording; the bare name stands first. Sentences are those one finds under videos and in their
# speech, on which the text tower was trained.
TEMPLATES = {
    "video": (
        "{}",
        "a video of {}",
        "a clip of {}",
        "a person doing {}",
        "someone is {}",
        "this is how {} looks",
    ),
    "audio": (
        "{}",
        "the sound of {}",
        "a recording of {}",
        "you can hear {}",
        "this is how {} sounds",
    ),
}
_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclasses.dataclass(frozen=True)
class ZeroShotResult:
    """Measures, and the similarities float32 [clips, classes] of the variant "embd"."""

    measures: list[Measure]
    scores: np.ndarray


def readable_name(label: str) -> str:
    """A class name as words: "ApplyEyeMakeup", "apply_eye_makeup" -> "apply eye makeup".

    Of a label with a group, such as "motion=left", the value is the name.
    """
    words = label.rpartition("=")[2].replace("_", " ")
    return " ".join(_WORD_STARTS.sub(" ", words).lower().split())


def prompts(labels: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Every class name in every template: [classes][templates].

    Raises:
      UserError: no template, one without exactly one "{}", or a class without a name.
    """
    if not templates:
        raise UserError("zero-shot templates: there is none; accepted: sentences with one '{}'")
    for template in templates:
        if template.count("{}") != 1:
            raise UserError(
                f"zero-shot template '{template}' has {template.count('{}')} places '{{}}' for the "
                "name of the class; accepted: one"
            )
    names = [readable_name(label) for label in labels]
    for number, name in enumerate(names):
        if not name:
            raise UserError(
                f"class {number}: '{labels[number]}' has no words; zero-shot classification needs "
                "class names"
            )
    return [[template.replace("{}", name) for template in templates] for name in names]


def class_vectors(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """One vector of length 1 per class, float32 [classes, d], of its prompts [prompts, d]."""
    shapes = [np.shape(prompts) for prompts in embeddings]
    if any(len(shape) != 2 or not shape[0] for shape in shapes):
        raise ValueError(f"prompt embeddings have shapes {shapes}; accepted: [prompts, d] each")
    means = [metrics.normalize(prompts).mean(axis=0) for prompts in embeddings]
    return metrics.normalize(np.stack(means)).astype(np.float32)


def zero_shot(
    dataset: str,
    clips: np.ndarray,
    class_prompts: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    modality: str,
    multi_label: bool = False,
    split: str = "test",
    fold: str = "",
) -> ZeroShotResult:
    """Scores clips against class names.

    Args:
      dataset: name of the set, in measures and messages.
      clips: [clips, windows, d] or [clips, d], of the space in which text is compared with them.
      class_prompts: [prompts, d] of each class, the text side of the same space.
      labels: one-hot or, with `multi_label`, many-hot [clips, classes].
      modality: of the clips.
      multi_label: whether clips may have several labels or none, as the card of the set says.
      split: that the clips are of.
      fold: number of the fold it belongs to; empty in sets without folds.

    Returns:
      For both ways of averaging windows, "embd" and "cosine", top_1_accuracy and top_5_accuracy
      or, with several labels, mAP, AUC and d-prime. A value is NaN if a score it needs is.

    Raises:
      DataError: labels that are not those of `multi_label`.
      ValueError: shapes that do not fit together, or no clip.
    """
    clips, labels = np.asarray(clips), np.asarray(labels)
    vectors = class_vectors(class_prompts)
    if not len(clips) or labels.shape != (len(clips), len(vectors)):
        raise ValueError(
            f"{dataset}: {len(clips)} clips, {len(vectors)} classes and labels of shape "
            f"{labels.shape}; accepted: one clip or more, labels [clips, classes]"
        )
    truth = scoring.checked_labels(dataset, "test", labels, multi_label)
    chance = scoring.chance(truth, len(vectors), multi_label)
    found, scores = [], np.zeros(0)
    for variant in ("cosine", "embd"):
        scores = metrics.similarity(clips, vectors, variant)  # [clips, classes]
        found += [
            Measure(
                dataset,
                measures.ZERO_SHOT,
                name,
                value,
                split=split,
                fold=fold,
                query="text",
                target=modality,
                variant=variant,
                chance=chance.get(name),
                samples=len(clips),
            )
            for name, value in scoring.scores_of(scores, truth, multi_label).items()
        ]
    return ZeroShotResult(found, scores)
