"""Zero-shot classification: names made readable, prompts averaged, nearest class wins."""

from __future__ import annotations

import numpy as np
import pytest

from vatt.errors import DataError, UserError
from vatt.evaluation import metrics, zero_shot
from vatt.evaluation.measures import published_names
from vatt.evaluation.zero_shot import TEMPLATES, class_vectors, prompts, readable_name


def make(classes=6, clips=50, windows=3, templates=4, d=16, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    labels = rng.integers(0, classes, clips)
    embeddings = centres[labels][:, None] + noise * rng.normal(size=(clips, windows, d))
    sentences = centres[:, None] + noise * rng.normal(size=(classes, templates, d))
    return embeddings, sentences, np.eye(classes)[labels]


def names_of(result):
    return published_names(result.measures)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("brush_hair", "brush hair"),
        ("YoYo", "yo yo"),
        ("TVShow", "tv show"),
        ("Male speech, man speaking", "male speech, man speaking"),
        ("  door__wood_knock ", "door wood knock"),
        ("motion=move_left", "move left"),
        ("Hi-hat", "hi-hat"),
        ("Größe", "größe"),
    ],
)
def test_names_become_words(label, name):
    assert readable_name(label) == name


def test_prompts_are_every_name_in_every_template():
    assert prompts(["BrushHair", "run"], ("{}", "a video of {}")) == [
        ["brush hair", "a video of brush hair"],
        ["run", "a video of run"],
    ]
    assert prompts(["{}"], ("x {}",)) == [["x {}"]]  # a name is no template
    for templates in TEMPLATES.values():
        assert templates[0] == "{}" and len(set(templates)) == len(templates)
        assert len(prompts(["a"], templates)[0]) == len(templates)
    with pytest.raises(UserError, match=r"'a video' has 0 places"):
        prompts(["a"], ("a video",))
    with pytest.raises(UserError, match="there is none"):
        prompts(["a"], ())
    with pytest.raises(UserError, match=r"class 1: '_' has no words"):
        prompts(["a", "_"], ("{}",))


def test_class_vectors_average_what_has_been_normalised():
    sentences = np.array([[[3.0, 0.0], [0.0, 500.0]], [[2.0, 0.0], [4.0, 0.0]]])
    np.testing.assert_allclose(class_vectors(sentences), [[0.5**0.5, 0.5**0.5], [1, 0]], rtol=1e-6)
    uneven = [sentences[0], sentences[1][:1]]  # classes may have different numbers of prompts
    np.testing.assert_allclose(class_vectors(uneven), class_vectors(sentences), rtol=1e-6)
    with pytest.raises(ValueError, match=r"\(2,\)"):
        class_vectors(sentences[0])


@pytest.mark.parametrize("variant", ["embd", "cosine"])
def test_against_a_loop_in_float64(variant):
    clips, sentences, labels = make(noise=1.5)
    result = zero_shot.zero_shot("toy", clips, sentences, labels, modality="video")
    right = {1: 0, 5: 0}
    for clip, label in zip(clips, labels, strict=True):
        scores = []
        for sentences_of_class in sentences:
            mean = sum(s / np.linalg.norm(s) for s in sentences_of_class)
            mean /= np.linalg.norm(mean)
            if variant == "embd":
                whole = clip.mean(axis=0)
                scores.append(whole @ mean / np.linalg.norm(whole))
            else:
                scores.append(np.mean([w @ mean / np.linalg.norm(w) for w in clip]))
        order = np.argsort(scores)[::-1]
        for k in right:
            right[k] += label.argmax() in order[:k]
    for k, count in right.items():
        value = names_of(result)[f"toy_zero_shot_{variant}_top_{k}_accuracy"]
        assert value == pytest.approx(count / 50)
    assert 0.3 < right[1] / 50 < 1  # neither trivial


def test_names_chance_and_scores():
    clips, sentences, labels = make(classes=8)
    result = zero_shot.zero_shot("toy", clips, sentences, labels, modality="video")
    assert names_of(result) == {
        f"toy_zero_shot_{variant}_top_{k}_accuracy": 1.0
        for variant in ("embd", "cosine")
        for k in (1, 5)
    } | {
        "toy_zero_shot_chance_top_1_accuracy": 1 / 8,
        "toy_zero_shot_chance_top_5_accuracy": 5 / 8,
    }
    assert result.scores.shape == (50, 8) and np.abs(result.scores).max() <= 1 + 1e-6
    assert all(type(value) is float for value in names_of(result).values())


def test_random_embeddings_are_at_chance():
    rng = np.random.default_rng(2)
    labels = np.eye(4)[rng.integers(0, 4, 800)]
    clips, sentences = rng.normal(size=(800, 8)), rng.normal(size=(4, 2, 8))
    accuracy = names_of(zero_shot.zero_shot("x", clips, sentences, labels, modality="video"))
    assert abs(accuracy["x_zero_shot_embd_top_1_accuracy"] - 0.25) < 4 * (0.25 * 0.75 / 800) ** 0.5


def test_lengths_and_the_order_of_clips_do_not_matter():
    clips, sentences, labels = make(noise=1.5)
    expected = names_of(zero_shot.zero_shot("x", clips, sentences, labels, modality="video"))
    order = np.random.default_rng(0).permutation(50)
    shuffled = names_of(
        zero_shot.zero_shot("x", clips[order] * 7, sentences * 3, labels[order], modality="video")
    )
    assert shuffled == pytest.approx(expected)


def test_several_labels():
    clips, sentences, labels = make(noise=1.5)
    labels[:20, 2], labels[20, :] = 1, 0
    result = zero_shot.zero_shot(
        "tags", clips, sentences, labels, multi_label=True, modality="video"
    )
    expected = metrics.multilabel_metrics(result.scores, labels)
    for name in ("mAP", "AUC", "d-prime"):
        assert names_of(result)[f"tags_zero_shot_embd_{name}"] == expected[name]
    share = labels.mean(axis=0).mean()
    assert names_of(result)["tags_zero_shot_chance_mAP"] == pytest.approx(share)
    with pytest.raises(DataError, match="tags: 1 of 50 test clips have no label"):
        zero_shot.zero_shot("tags", clips, sentences, labels, modality="video")


def test_broken_embeddings_give_nan_and_shapes_are_named():
    clips, sentences, labels = make()
    clips[3, 1, 2] = np.nan
    values = names_of(zero_shot.zero_shot("x", clips, sentences, labels, modality="video"))
    assert np.isnan(values["x_zero_shot_embd_top_1_accuracy"])
    with pytest.raises(ValueError, match=r"50 clips, 6 classes and labels of shape \(50, 5\)"):
        zero_shot.zero_shot("x", clips, sentences, labels[:, :5], modality="video")
    with pytest.raises(ValueError, match="0 clips"):
        zero_shot.zero_shot("x", clips[:0], sentences, labels[:0], modality="video")
    with pytest.raises(ValueError, match="common space"):
        zero_shot.zero_shot("x", clips[..., :5], sentences, labels, modality="video")
