"""The classification accumulator against scikit-learn, float64 sums and its own properties."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy import special, stats
from sklearn import metrics as sklearn_metrics

from vatt.evaluation import artefacts, metrics
from vatt.evaluation.artefacts import spectrogram
from vatt.evaluation.classification import Classification
from vatt.evaluation.measures import published_names
from vatt.evaluation.mistakes import MISTAKES

NAMES = ["walk", "run|fast", "jump", "sit", "=1+1", "fall", "turn"]


def clips(count=41, classes=7, seed=0, several=False, sound=False):
    """One batch of labelled clips and logits that mostly agree; class 5 never occurs."""
    rng = np.random.default_rng(seed)
    if several:
        labels = (rng.random((count, classes)) < 0.3).astype(np.float32)
    else:
        labels = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, count)]
    if classes > 5:
        moved = labels[:, 5] > 0
        labels[:, 5] = 0
        labels[moved, 0] = 1
    logits = (3 * rng.normal(size=labels.shape) + 4 * labels).astype(np.float32)
    batch = {
        "valid": np.ones(count, np.float32),
        "label": labels,
        "index": np.arange(count, dtype=np.int64),
        "source": np.array([f"{i} ü,.mp4".encode() for i in range(count)], object),
    }
    if sound:
        batch["audio"] = rng.uniform(-1, 1, size=(count, 3, 500, 1)).astype(np.float32)
        batch["audio_mask"] = (np.arange(count) % 5 > 0).astype(np.float32)
    else:
        batch["thumbnail"] = rng.integers(0, 255, (count, 3, 8, 10, 3)).astype(np.uint8)
    return batch, logits


def take(batch, logits, rows, pad=0):
    """Those rows, then `pad` rows of zeros that `valid` marks as such and garbage logits."""
    part = {}
    for name, array in batch.items():
        filler = np.full((pad, *array.shape[1:]), b"" if array.dtype == object else 0, array.dtype)
        part[name] = np.concatenate([array[rows], filler])
    garbage = np.full((pad, logits.shape[1]), np.nan, np.float32)
    return part, np.concatenate([logits[rows], garbage])


def score(batch, logits, **arguments):
    scores = Classification("set", **{"labels": NAMES, "modality": "video"} | arguments)
    scores.add(batch, logits)
    return scores.result()


def names_of(result):
    return published_names(result.measures)


def assert_same(found, expected):
    assert names_of(found) == pytest.approx(names_of(expected), rel=1e-12, nan_ok=True)
    assert set(found.artefact) == set(expected.artefact)
    for name, array in expected.artefact.items():
        np.testing.assert_array_equal(found.artefact[name], array, err_msg=name)


def test_video_metrics_equal_independent_ones():
    batch, logits = clips()
    values = names_of(score(batch, logits))
    truth = batch["label"].argmax(axis=1)
    wide = logits.astype(np.float64)
    assert values["top_1_accuracy"] == sklearn_metrics.accuracy_score(truth, wide.argmax(axis=1))
    assert values["top_5_accuracy"] == sklearn_metrics.top_k_accuracy_score(
        truth, wide, k=5, labels=range(7)
    )
    recalls = sklearn_metrics.recall_score(
        truth, wide.argmax(axis=1), labels=np.unique(truth), average=None
    )
    assert values["mean_class_accuracy"] == pytest.approx(recalls.mean())
    assert values["categorical_cross_entropy"] == pytest.approx(
        sklearn_metrics.log_loss(truth, special.softmax(wide, axis=1), labels=range(7))
    )
    counts = np.sort(np.bincount(truth))
    assert values["chance_top_1_accuracy"] == counts[-1] / 41
    assert values["chance_top_5_accuracy"] == counts[-5:].sum() / 41
    assert values["num_clips"] == 41
    assert 0.2 < values["top_1_accuracy"] < 0.95
    assert "sklearn_mAP" not in values and "clips_without_label" not in values


def test_audio_metrics_equal_independent_ones():
    batch, logits = clips(several=True, sound=True)
    result = score(batch, logits, modality="audio", multi_label=True)
    labels = batch["label"]
    kept = [c for c in range(7) if c != 5]
    probabilities = special.expit(logits.astype(np.float64))
    area = sklearn_metrics.roc_auc_score(labels[:, kept], probabilities[:, kept], average=None)
    precision = sklearn_metrics.average_precision_score(labels[:, kept], probabilities[:, kept])
    values = names_of(result)
    assert values["sklearn_mAP"] == pytest.approx(precision)
    assert values["sklearn_AUC"] == pytest.approx(area.mean())
    assert values["sklearn_d-prime"] == pytest.approx(
        np.mean(math.sqrt(2) * stats.norm.ppf(area)), abs=1e-9
    )
    found = values["d-prime_of_mean_AUC"]
    assert found == pytest.approx(math.sqrt(2) * stats.norm.ppf(area.mean()))
    entropy = -(labels * np.log(probabilities) + (1 - labels) * np.log1p(-probabilities))
    assert values["binary_cross_entropy"] == pytest.approx(entropy.mean())
    assert values["chance_sklearn_mAP"] == pytest.approx(labels[:, kept].mean())
    assert values["classes_left_out"] == 1
    assert "top_1_accuracy" not in values
    np.testing.assert_allclose(result.artefact["classes/AUC"][kept], area)
    assert np.isnan(result.artefact["classes/AP"][5])
    assert metrics.multilabel_metrics(logits, labels) == pytest.approx(
        {name: values[f"sklearn_{name}"] for name in ("mAP", "AUC", "d-prime")}
        | {"classes_left_out": 1}
    )


@pytest.mark.parametrize("modality", ["video", "audio", "video+audio"])
def test_whether_a_clip_can_have_several_labels_decides_about_the_figures(modality):
    batch, logits = clips(sound="audio" in modality)
    found = score(batch, logits, modality=modality)
    values, truth = names_of(found), batch["label"].argmax(axis=1)
    assert values["top_1_accuracy"] == np.mean(logits.argmax(axis=1) == truth)
    assert set(values) == {
        "top_1_accuracy",
        "top_5_accuracy",
        "mean_class_accuracy",
        "categorical_cross_entropy",
        "chance_top_1_accuracy",
        "chance_top_5_accuracy",
        "num_clips",
    }
    assert values == names_of(score(batch, logits, modality="video"))
    shares = special.softmax(logits.astype(np.float64), axis=1).max(axis=1)
    rows = list(csv.DictReader(io.StringIO(found.table())))
    np.testing.assert_allclose([float(row["probability"]) for row in rows], shares, rtol=1e-5)
    assert {m.target for m in found.measures} == {modality}
    several = score(batch, logits, modality=modality, multi_label=True)
    assert set(names_of(several)) == {
        "sklearn_mAP",
        "sklearn_AUC",
        "sklearn_d-prime",
        "d-prime_of_mean_AUC",
        "binary_cross_entropy",
        "chance_sklearn_mAP",
        "classes_left_out",
        "num_clips",
    }
    assert all(type(value) is float for value in names_of(several).values())


def test_mistakes_of_a_classifier_of_both_are_seen_and_heard():
    batch, logits = clips(count=100, sound=True)
    batch["thumbnail"] = clips(count=100)[0]["thumbnail"]
    arrays = score(batch, logits, modality="video+audio").artefact
    worst = arrays["mistakes/index"][0]
    assert artefacts.clip_jpeg(arrays, 0) == artefacts.strip_jpeg(batch["thumbnail"][worst])
    np.testing.assert_array_equal(
        arrays["mistakes/spectrogram"][0], spectrogram(batch["audio"][worst, 1])
    )


@pytest.mark.parametrize("case", ["ml", "ml_ties", "acc_12", "acc_4"])
def test_golden_figures(shared_dir, case):
    with np.load(shared_dir / "conformance" / "metrics.npz", allow_pickle=False) as archive:
        golden = {
            name.removeprefix(f"{case}/"): archive[name]
            for name in archive.files
            if name.startswith(f"{case}/")
        }
    scores, truth = golden["in:pred"], golden["in:gt"]
    several = case.startswith("ml")
    labels = truth if several else np.eye(scores.shape[1])[truth[:, 0]]
    result = score(
        {"label": labels},
        scores,  # only their order counts
        labels=None,
        modality="audio" if several else "video",
        multi_label=several,
    )
    values = names_of(result)
    for name in (name.removeprefix("out:") for name in golden if name.startswith("out:")):
        own = {"test_top1": "top_1_accuracy", "test_top5": "top_5_accuracy"}.get(name, name)
        assert values[own] == pytest.approx(float(golden[f"out:{name}"]), abs=1e-9), name


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
@pytest.mark.parametrize("size", [1, 5, 41])
def test_batches_and_rows_that_are_not_valid_change_nothing(several, size):
    batch, logits = clips(several=several, sound=several)
    arguments = {"modality": "audio" if several else "video", "multi_label": several}
    parts = Classification("set", labels=NAMES, **arguments)
    for start in range(0, 41, size):
        rows = range(start, min(start + size, 41))
        parts.add(*take(batch, logits, list(rows), pad=size - len(rows) + 1))
    assert len(parts) == 41
    found, expected = parts.result(), score(batch, logits, **arguments)
    assert_same(found, expected)
    assert found.table() == expected.table()


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_the_order_of_the_clips_changes_nothing(several):
    batch, logits = clips(several=several, sound=several)
    logits = np.round(logits)  # many equal ones
    arguments = {"modality": "audio" if several else "video", "multi_label": several}
    order = np.random.default_rng(3).permutation(41)
    found = score(*take(batch, logits, order), **arguments)
    assert_same(found, score(batch, logits, **arguments))
    table = found.table().splitlines()
    assert sorted(table) == sorted(score(batch, logits, **arguments).table().splitlines())


def test_class_table_and_confusion_matrix():
    batch, logits = clips(count=200)
    arrays = score(batch, logits).artefact
    truth, predicted = batch["label"].argmax(axis=1), logits.argmax(axis=1)
    matrix = sklearn_metrics.confusion_matrix(truth, predicted, labels=range(7))
    np.testing.assert_array_equal(arrays["confusion"], matrix)
    np.testing.assert_array_equal(arrays["classes/clips"], matrix.sum(axis=1))
    assert np.isnan(arrays["classes/accuracy"][5]) and arrays["classes/clips"][5] == 0
    wrong = matrix - np.diag(np.diag(matrix))
    for name in range(7):
        if name != 5:
            assert arrays["classes/accuracy"][name] == matrix[name, name] / matrix[name].sum()
        confused = arrays["classes/confused_with"][name]
        assert arrays["classes/confused_clips"][name] == wrong[name].max()
        assert (
            confused == -1 if not wrong[name].any() else wrong[name, confused] == wrong[name].max()
        )


def test_ties_go_to_the_higher_class_everywhere():
    labels = np.eye(7, dtype=np.float32)
    result = score({"label": labels}, np.zeros((7, 7)))
    assert names_of(result)["top_1_accuracy"] == pytest.approx(1 / 7)
    assert names_of(result)["top_5_accuracy"] == pytest.approx(5 / 7)
    assert result.artefact["confusion"][:, 6].sum() == 7
    rows = list(csv.DictReader(io.StringIO(result.table())))
    assert [row["correct"] for row in rows] == ["0"] * 6 + ["1"]
    assert rows[0]["class_1"] == "turn" and rows[0]["class_5"] == "jump"


def test_worst_mistakes_once_each_with_their_frames():
    batch, logits = clips(count=200)
    arrays = score(batch, logits).artefact
    shares = special.softmax(logits.astype(np.float64), axis=1)
    wrong = np.flatnonzero(logits.argmax(axis=1) != batch["label"].argmax(axis=1))
    worst = wrong[np.argsort(-shares[wrong].max(axis=1), kind="stable")][:MISTAKES]
    assert len(wrong) > MISTAKES
    np.testing.assert_array_equal(arrays["mistakes/index"], worst)
    np.testing.assert_array_equal(arrays["mistakes/class"], logits[worst].argmax(axis=1))
    np.testing.assert_allclose(arrays["mistakes/probability"], shares[worst], rtol=1e-5)
    for place, clip in enumerate(worst):
        jpeg = artefacts.clip_jpeg(arrays, place)
        assert jpeg == artefacts.strip_jpeg(batch["thumbnail"][clip])
        assert Image.open(io.BytesIO(jpeg)).size == (30, 8)
        assert arrays["mistakes/source"][place] == f"{clip} ü,.mp4"


def test_false_alarms_and_misses_with_their_sound():
    batch, logits = clips(count=100, several=True, sound=True)
    arrays = score(batch, logits, modality="audio", multi_label=True).artefact
    kinds = arrays["mistakes/kind"]
    assert kinds.tolist() == ["false alarm"] * MISTAKES + ["miss"] * MISTAKES
    labels = batch["label"] > 0
    for kind, sign, among in (("false alarm", 1, ~labels), ("miss", -1, labels)):
        badness = np.where(among, sign * logits, -np.inf)
        worst = np.argsort(-badness.max(axis=1), kind="stable")[:MISTAKES]
        rows = kinds == kind
        np.testing.assert_array_equal(arrays["mistakes/index"][rows], worst)
        np.testing.assert_array_equal(arrays["mistakes/class"][rows], badness[worst].argmax(axis=1))
        np.testing.assert_array_equal(arrays["mistakes/label"][rows], labels[worst])
        np.testing.assert_array_equal(arrays["mistakes/silent"][rows], worst % 5 == 0)
    first = arrays["mistakes/index"][0]
    middle = batch["audio"][first, 1]
    np.testing.assert_array_equal(arrays["mistakes/envelope"][0], artefacts.envelope(middle))
    np.testing.assert_array_equal(arrays["mistakes/spectrogram"][0], spectrogram(middle))


def test_pictures_are_made_only_of_candidates(monkeypatch):
    """Mistakes that come in falling order of confidence: after the first ones nothing is drawn."""
    made = []
    monkeypatch.setattr(artefacts, "strip_jpeg", lambda frames: made.append(1) or b"jpeg")
    count = 500
    batch, _ = clips(count=count)
    batch["label"] = np.tile(np.eye(7)[0], (count, 1))
    logits = np.zeros((count, 7))
    logits[:, 3] = np.linspace(5, 4, count)
    assert len(score(batch, logits).artefact["mistakes/kind"]) == MISTAKES
    assert len(made) == MISTAKES


def test_files(tmp_path):
    batch, logits = clips()
    result = score(batch, logits)
    path = result.save(tmp_path, 300)
    assert path == tmp_path / "eval" / "set-300.npz"
    arrays = artefacts.load(path)
    assert int(arrays["step"]) == 300 and str(arrays["dataset"]) == "set"
    assert not any(array.dtype == object for array in arrays.values())
    kept = artefacts.load(tmp_path / "predictions" / "set-300.npz")
    np.testing.assert_array_equal(kept["logits"], logits)
    np.testing.assert_array_equal(kept["labels"], batch["label"])
    assert kept["labels"].dtype == np.uint8
    assert kept["class_names"].tolist() == NAMES
    with open(tmp_path / "predictions" / "set-300.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(41))
    assert rows[7]["source"] == "7 ü,.mp4"
    shares = special.softmax(logits.astype(np.float64), axis=1)
    for clip, row in enumerate(rows):
        best = int(logits[clip].argmax())
        assert row["prediction"] == row["class_1"] == NAMES[best]
        assert row["label"] == NAMES[int(batch["label"][clip].argmax())]
        assert row["correct"] == str(int(row["label"] == row["prediction"]))
        assert float(row["probability"]) == pytest.approx(shares[clip, best], rel=1e-5)
        falling = [float(row[f"probability_{place}"]) for place in range(1, 6)]
        assert falling == pytest.approx(np.sort(shares[clip])[:1:-1], rel=1e-5)
    accuracy = np.mean([row["correct"] == "1" for row in rows])
    assert accuracy == pytest.approx(names_of(result)["top_1_accuracy"])


def test_table_of_several_labels():
    batch = {"label": np.array([[1, 0, 1], [0, 0, 0]])}
    logits = np.array([[2.0, 0.5, -3.0], [-1.0, -1.0, -2.0]])
    result = score(batch, logits, labels=["a"], modality="audio", multi_label=True)
    first, second = csv.DictReader(io.StringIO(result.table()))
    assert first["label"] == "a|class 2" and first["prediction"] == "a|class 1"
    assert first["probability"] == "0.880797|0.622459" and first["correct"] == ""
    assert second["label"] == second["prediction"] == second["probability"] == ""
    assert second["class_1"] == "class 1"  # equal to that of "a", and the higher class


def test_logits_that_are_not_finite_are_never_right():
    batch, logits = clips()
    logits[4] = np.nan
    logits[9, 2] = np.inf
    result = score(batch, logits)
    broken = batch["label"][[4, 9]].argmax(axis=1)
    for name in ("top_1_accuracy", "top_5_accuracy", "categorical_cross_entropy"):
        assert math.isnan(names_of(result)[name]), name
    assert math.isnan(names_of(result)["mean_class_accuracy"])
    assert np.isnan(result.artefact["classes/accuracy"][broken]).all()
    assert result.artefact["confusion"].sum() == 39 and result.artefact["num_broken"] == 2
    assert not {4, 9} & set(result.artefact["mistakes/index"].tolist())
    rows = list(csv.DictReader(io.StringIO(result.table())))
    assert rows[4]["prediction"] == rows[9]["prediction"] == rows[9]["class_1"] == ""
    assert rows[4]["correct"] == rows[9]["correct"] == "0"

    batch, logits = clips(several=True)
    logits[9, 2] = -np.inf
    result = score(batch, logits, modality="audio", multi_label=True)
    assert math.isnan(names_of(result)["sklearn_mAP"])
    assert math.isnan(names_of(result)["binary_cross_entropy"])
    assert np.flatnonzero(np.isnan(result.artefact["classes/AP"])).tolist() == [2, 5]


def test_clips_without_label_have_no_part_in_the_accuracies():
    batch, logits = clips()
    batch["label"][[0, 7]] = 0
    kept = np.setdiff1d(np.arange(41), [0, 7])
    found, expected = score(batch, logits), score(*take(batch, logits, kept))
    values, others = names_of(found), names_of(expected)
    assert values.pop("clips_without_label") == 2
    assert values.pop("num_clips") == 41
    assert others.pop("num_clips") == 39
    assert values == pytest.approx(others)
    np.testing.assert_array_equal(found.artefact["confusion"], expected.artefact["confusion"])
    rows = list(csv.DictReader(io.StringIO(found.table())))
    assert rows[7]["label"] == rows[7]["correct"] == "" and rows[7]["prediction"]


def test_extreme_logits_stay_finite():
    labels = np.eye(2, dtype=np.float32)
    result = score({"label": labels}, np.array([[-1e4, 1e4], [0, 1e4]]), labels=None)
    assert names_of(result)["categorical_cross_entropy"] == 1e4  # (2e4 + 0) / 2
    logits = labels * 2e4 - 1e4
    values = names_of(score({"label": labels}, logits, labels=None, multi_label=True))
    assert values["binary_cross_entropy"] == 0
    assert values["sklearn_mAP"] == 1
    # one positive and one negative: half of the one pair counts as wrong
    assert values["sklearn_d-prime"] == pytest.approx(math.sqrt(2) * stats.norm.ppf(0.5))


def test_a_class_in_perfect_order_counts_as_half_a_pair_short_of_it():
    labels = np.zeros((10, 2), np.float32)
    labels[:4, 0] = labels[::2, 1] = 1
    logits = np.stack([-np.arange(10.0), np.arange(10.0) % 3], axis=1)
    result = score({"label": labels}, logits, labels=None, modality="audio", multi_label=True)
    perfect = math.sqrt(2) * stats.norm.ppf(1 - 0.5 / 24)
    other = metrics.multilabel_scores(logits, labels)["d-prime"][1]
    np.testing.assert_allclose(result.artefact["classes/d-prime"], [perfect, other])
    assert names_of(result)["sklearn_d-prime"] == pytest.approx((perfect + other) / 2)


@pytest.mark.parametrize("classes", [1, 2, 1001])
def test_any_number_of_classes(tmp_path, classes):
    batch, logits = clips(count=3, classes=classes)
    result = score(batch, logits, labels=None)
    assert ("confusion" in result.artefact) == (classes <= 1000)
    assert result.artefact["classes/name"][-1] == f"class {classes - 1}"
    result.save(tmp_path, 1)
    if classes <= 5:
        assert names_of(result)["top_5_accuracy"] == 1.0


def test_bad_input_is_named():
    batch, logits = clips()
    with pytest.raises(ValueError, match=r"logits have shape \(41, 6\), labels \(41, 7\)"):
        score(batch, logits[:, :6])
    with pytest.raises(ValueError, match=r"valid \(3,\)"):
        score(batch | {"valid": np.ones(3)}, logits)
    with pytest.raises(ValueError, match="no 'label'"):
        score({"valid": np.ones(41)}, logits)
    with pytest.raises(ValueError, match="neither smoothed nor mixed"):
        score(batch | {"label": 0.9 * batch["label"]}, logits)
    with pytest.raises(ValueError, match="8 class names for 7 classes"):
        score(batch, logits, labels=[*NAMES, "more"])
    with pytest.raises(ValueError, match="modality is 'text'"):
        Classification("set", modality="text")
    with pytest.raises(ValueError, match="no valid clip"):
        score(batch | {"valid": np.zeros(41)}, logits)
    scores = Classification("set", modality="video")
    scores.add(batch, logits)
    with pytest.raises(ValueError, match="has 3 classes, those before had 7"):
        scores.add({"label": np.eye(3)}, np.eye(3))


def test_spectrogram_shows_the_pitch():
    time = np.arange(16000) / 16000
    pictures = [
        spectrogram(np.sin(2 * np.pi * pitch * time)[:, None]) for pitch in (100, 1000, 6000)
    ]
    assert all(p.dtype == np.uint8 and p.shape == pictures[0].shape for p in pictures)
    loudest = [int(p[:, 60].argmax()) for p in pictures]
    assert loudest == sorted(set(loudest)) and loudest[0] < len(pictures[0]) / 4
    assert loudest[2] > len(pictures[0]) * 0.7
    half = np.where(time < 0.5, np.sin(2 * np.pi * 1000 * time), 0)[:, None]
    columns = spectrogram(half).max(axis=0)
    assert columns[:50].min() > 200 and columns[70:].max() == 0


@pytest.mark.parametrize("samples", [0, 1, 31, 500, 50000])
def test_spectrogram_of_any_length(samples):
    silence = spectrogram(np.zeros((samples, 1)))
    assert silence.shape[1] == 128 and silence.max() == 0
    noise = np.random.default_rng(0).normal(size=(samples, 1))
    noise[:1] = np.nan
    assert spectrogram(noise).max() == (255 if samples > 1 else 0)


def test_mel_input_is_drawn_as_it_is():
    mel = np.linspace(0, 1, 20 * 8).reshape(20, 8, 1)
    picture = spectrogram(mel)
    assert picture.shape == (8, 20) and picture[0, 0] == 0 and picture[-1, -1] == 255
    np.testing.assert_allclose(picture.T / 255, mel[..., 0], atol=0.002)
