"""Evaluators on a model that is nothing but functions, and batches that are nothing but arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vatt import configs
from vatt.data import cards
from vatt.errors import DataError
from vatt.evaluation import artefacts, metrics
from vatt.evaluation.measures import published_names
from vatt.evaluators import classification, features, probes, retrieval, zero_shot
from vatt.evaluators.subject import POOLED, Subject
from vatt.modeling.pretraining import Pair

VIDEO, AUDIO, TEXT = cards.VideoInfo(fps=10), cards.AudioInfo(sample_rate=8), cards.TextInfo()
LABELS = ["left", "right"]


class Model:
    """Embeds a modality as the mean of its numbers, in four dimensions; notes what it is given."""

    modalities = ("video", "audio", "text")
    takes = modalities
    pairs = (
        Pair("text", "video", "t", "v"),
        Pair("audio", "video", "a", "v"),
        Pair("text+video", "audio", "tv", "a"),
    )

    def __init__(self):
        self.given = []

    def embed(self, inputs):
        self.given.append(sorted(inputs))
        found = {m[0]: self._vectors(values) for m, values in inputs.items()}
        return found | {"tv": found["t"] + found["v"]}

    def encode(self, modality, clips):
        return {POOLED: self._vectors(clips), modality[0]: self._vectors(clips)}

    def attend(self, modality, clips):
        return None

    @staticmethod
    def _vectors(values):
        flat = values.reshape(*values.shape[:2], -1)
        return np.stack([flat[..., n::4].mean(axis=-1) for n in range(4)], axis=-1)


class Classifier:
    """Tells the signal from its absence, by pictures alone."""

    modalities = ("video", "audio")

    def classify(self, inputs):
        level = inputs["video"].mean(axis=(1, 2)) - 0.5
        return np.stack([-level, level], axis=1)


@dataclasses.dataclass(frozen=True)
class Arrays(Subject):
    """A subject whose sets are arrays, the same for every split."""

    batch: dict

    def clips(self, card, splits, modalities=("video", "audio", "text")):
        gone = {"video", "audio", "text"}.difference(modalities)
        return iter([{key: value for key, value in self.batch.items() if key not in gone}])

    def clips_to_train_on(self, card, splits, modality):
        batches = self.clips(card, splits, (modality,))
        return (batch | {modality: batch[modality][:, :1]} for batch in batches)  # one window


def batch(count=12):
    rng = np.random.default_rng(0)
    labels = np.eye(2)[np.arange(count) % 2]
    signal = labels.argmax(axis=1).reshape(-1, 1, 1)
    noise = {"video": (2, 8), "audio": (2, 8), "text": (1, 8)}
    found = {
        name: (signal + rng.normal(size=(count, *shape))).astype(np.float32)
        for name, shape in noise.items()
    }
    return found | {"valid": np.ones(count), "label": labels, "index": np.arange(count)}


def subject(folder, *sets, **changes):
    cfg = configs.resolve(
        task="pretrain",
        model_arch="tx_fac_tiny",
        params_override={"eval": {"report": False, "input": {"vocabulary": "toy_en"}}},
    )
    fields = {"step": 7, "checkpoint": "abc", "model": Model(), "batch": batch()} | changes
    return Arrays(cfg=cfg, input=cfg.eval.input, cards=sets, folder=folder, **fields)


def card(name="set", *, tasks=("retrieval",), **facts):
    return cards.Card(name=name, tasks=list(tasks), **facts)


def test_retrieval_goes_through_every_pair_of_the_model(tmp_path):
    made = subject(tmp_path, card(video=VIDEO, audio=AUDIO, text=TEXT))
    found = list(retrieval.evaluate(made))
    asked = {(m.query, m.target) for m in found if m.task == "retrieval"}
    assert asked == {
        ("text", "video"),
        ("video", "text"),
        ("audio", "video"),
        ("video", "audio"),
        ("text+video", "audio"),
        ("audio", "text+video"),
    }
    vectors = Model().embed({m: made.batch[m] for m in Model.modalities})
    ranks = metrics.ranks(metrics.similarity(vectors["tv"], vectors["a"], "embd"))
    names = published_names(found)
    assert names["set_text+video2audio_embd_MeanRank"] == np.mean(ranks)
    assert names["set_num_clips"] == 12
    arrays = artefacts.load(tmp_path / "eval" / "set-7.npz")
    assert "text+video_audio/top" in arrays and int(arrays["step"]) == 7


def test_of_a_set_without_sound_only_the_pairs_that_need_none(tmp_path):
    mute, labelled = card(video=VIDEO, text=TEXT), card("acts", tasks=["video_classification"])
    found = list(retrieval.evaluate(subject(tmp_path, mute, labelled)))
    assert {(m.set, m.query, m.target) for m in found if m.task == "retrieval"} == {
        ("set", "text", "video"),
        ("set", "video", "text"),
    }
    with pytest.raises(DataError, match=r"'set' has nothing to search with.*text\+video and audio"):
        list(retrieval.evaluate(subject(tmp_path, card(video=VIDEO))))


@pytest.fixture
def folds(monkeypatch):
    """Two folds of six clips each, without files."""
    monkeypatch.setattr(
        cards.Card, "folds", lambda self: [("train1", "test1"), ("train2", "test2")]
    )
    monkeypatch.setattr(
        features.pipeline, "split_rows", lambda card, splits: [np.arange(6), 6 + np.arange(6)]
    )


def acts(**facts):
    tasks = ["video_classification", "audio_classification"]
    return card("acts", tasks=tasks, video=VIDEO, audio=AUDIO, labels=LABELS, **facts)


def test_probes_take_features_of_every_fold_and_modality(tmp_path, folds):
    made = subject(tmp_path, acts())
    found = list(probes.knn(made))
    assert [(m.target, m.fold, m.split) for m in found if m.name == "top_1_accuracy"] == [
        (target, fold, split)
        for target in ("video", "audio")
        for fold, split in (("1", "train"), ("1", "test"), ("2", "train"), ("2", "test"), ("", ""))
    ]
    assert {m.task for m in found} == {"knn"}
    names = published_names(found)
    assert names["acts_chance_top_1_accuracy"] == names["acts@audio_chance_top_1_accuracy"] == 0.5
    assert names["acts_knn_top_1_accuracy"] == np.mean(
        [names[f"acts_{fold}_test_knn_top_1_accuracy"] for fold in (1, 2)]
    )


def test_several_labels_per_clip_are_for_the_other_probes(tmp_path, folds):
    made = subject(tmp_path, acts(multi_label=True))
    assert list(probes.published_probe(made)) == []
    assert {m.name for m in probes.linear(made)} == {"mAP", "AUC", "d-prime"}


def test_names_of_classes_are_compared_where_text_meets_the_modality(tmp_path, folds):
    found = list(zero_shot.evaluate(subject(tmp_path, acts())))
    assert {(m.query, m.target, m.variant) for m in found} == {
        ("text", "video", "cosine"),
        ("text", "video", "embd"),
    }  # nothing compares text with sound
    kept = artefacts.load(tmp_path / "features" / "acts-video-test.npz")
    np.testing.assert_array_equal(kept["embedded"], Model().encode("video", batch()["video"])["v"])


def test_features_are_made_again_where_another_embedding_is_kept(tmp_path, folds):
    first = subject(tmp_path, acts())
    features.tests(first, acts(), "video")

    class Other(Model):
        pairs = (Pair("text", "video", "t", "elsewhere"),)

        def encode(self, modality, clips):
            return super().encode(modality, clips) | {"elsewhere": clips[..., :3]}

    made = features.tests(subject(tmp_path, acts(), model=Other()), acts(), "video")
    assert [part.embedded.shape for part in made] == [(6, 2, 3), (6, 2, 3)]
    assert [part.embedded.shape[-1] for part in features.tests(first, acts(), "audio")] == [0, 0]


def test_what_is_classified_is_what_the_card_lists_and_the_model_takes(tmp_path):
    assert features.modalities(card("x", tasks=["audio_classification"], video=VIDEO)) == []
    both = acts(paper_splits={"train": 1, "test": 1})
    assert features.modalities(both) == ["video", "audio"]
    made = subject(tmp_path, card(), both)
    assert list(features.classified(made)) == [(both, "video"), (both, "audio")]

    class Deaf(Model):
        modalities = ("video",)

    made = subject(tmp_path, both, model=Deaf())
    assert list(features.classified(made)) == [(both, "video")]


@pytest.mark.parametrize("several", [False, True])
def test_classification_asks_the_card_for_the_kind_of_labels(tmp_path, several):
    made = subject(tmp_path, acts(multi_label=several), model=Classifier())
    found = list(classification.evaluate(made))
    logits, labels = Classifier().classify(made.batch), made.batch["label"]
    names = published_names(found)
    if several:
        assert names["sklearn_mAP"] == metrics.multilabel_metrics(logits, labels)["mAP"]
        assert "top_1_accuracy" not in names
    else:
        right = logits.argmax(axis=1) == labels.argmax(axis=1)
        assert names["top_1_accuracy"] == np.mean(right) > 0.5
        assert "sklearn_mAP" not in names
    assert {(m.set, m.target, m.samples) for m in found} == {("acts", "video+audio", 12)}
    assert (tmp_path / "predictions" / "acts-7.csv").exists()
    arrays = artefacts.load(tmp_path / "eval" / "acts-7.npz")
    assert arrays["classes/name"].tolist() == LABELS and str(arrays["modality"]) == "video+audio"
