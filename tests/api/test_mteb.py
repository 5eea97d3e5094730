"""What mteb measures of a model is what the model's own embeddings give.

Tasks are small ones of its own classes, on rendered scenes; nothing is fetched.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools

import numpy as np
import pytest

import vatt
from vatt.api.mteb import MtebEncoder
from vatt.data.toy import captions, scene, sound, video
from vatt.errors import DataError, UserError

COUNT = 24
RATE = sound.SAMPLE_RATE
INSTALLED = importlib.util.find_spec("mteb") is not None


def measured(test):
    """Marks what needs mteb and a trained model."""
    missing = pytest.mark.skipif(
        not INSTALLED, reason="mteb is not installed: pip install 'vatt[mteb]'"
    )
    return pytest.mark.slow(missing(test))


@pytest.fixture(scope="module")
def mteb():
    import mteb

    return mteb


@pytest.fixture(scope="module")
def tasks():
    import mteb_tasks

    return mteb_tasks


@pytest.fixture(scope="module")
def toy():
    return vatt.load("toy")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Files, sentences, and int16 sounds of COUNT scenes, no two alike."""
    rng = np.random.default_rng(3)
    every = list(itertools.product(scene.SHAPES, scene.COLOURS, scene.MOTIONS))
    kinds = [every[n] for n in rng.permutation(len(every))[:COUNT]]
    scenes = [scene.draw_scene(rng, *kind, 2.0) for kind in kinds]
    folder, paths, waves = tmp_path_factory.mktemp("shown"), [], []
    for number, one in enumerate(scenes):
        heard = sound.synthesise(one, rng)
        paths.append(folder / f"{number}.mp4")
        video.write_mp4(paths[-1], scene.render(one, rng), heard)
        waves.append(np.round(heard * 32767).astype(np.int16))
    return scenes, paths, [captions.describe(one, rng) for one in scenes], waves


class Kept(MtebEncoder):
    """Remembers what it gave."""

    def encode(self, inputs, **options):
        self.given = [*getattr(self, "given", []), super().encode(inputs, **options)]
        return self.given[-1]


def score(mteb, encoder, task):
    """The main score, by mteb's own evaluation."""
    options = {"batch_size": 7, "show_progress_bar": False}
    result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, encode_kwargs=options)
    [found] = result.task_results[0].scores["test"]
    return found["main_score"]


def vectors(embeddings, space):
    return np.stack([one.vector(space) for one in embeddings])


def recall(queries, corpus, most=5):
    """Share of queries whose own row is among the first."""
    similar = queries @ corpus.T
    return np.mean(np.sum(similar >= np.diag(similar)[:, None], axis=1) <= most)


def test_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"mteb is not installed: pip install 'vatt\[mteb\]'"):
        MtebEncoder(None)


@measured
def test_sounds_are_told_apart_by_sentences(mteb, tasks, toy, shown):
    import datasets

    scenes, _, _, waves = shown
    sentences = [f"here you see a {shape}" for shape in scene.SHAPES]
    labels = [scene.SHAPES.index(one.shape) for one in scenes]
    files = [{"bytes": tasks.wav(x, RATE), "path": None} for x in waves]
    rows = datasets.Dataset.from_dict({"audio": files, "label": labels})
    encoder = Kept(toy)
    found = score(
        mteb, encoder, tasks.zero_shot(rows.cast_column("audio", datasets.Audio()), sentences)
    )
    texts = vectors(toy.embed_text(sentences), "text_tovid")
    sounds = vectors(toy.embed_audio(waves, sample_rate=RATE), "audio_totxt")
    np.testing.assert_allclose(encoder.given[0], texts, atol=1e-6)
    np.testing.assert_allclose(encoder.given[1], sounds, atol=1e-6)
    own = np.mean(np.argmax(sounds @ texts.T, axis=1) == labels)
    assert found == pytest.approx(own)
    assert own > 0.3  # chance: 0.125


@measured
def test_sounds_are_classified_by_a_probe(mteb, tasks, toy):
    """Of arrays, whose rates differ: those at half the rate are what is heard at that rate."""
    import datasets

    rng = np.random.default_rng(4)
    rows = {"train": [], "test": []}
    for split, count in (("train", 8), ("test", 3)):
        for label, shape in enumerate(scene.SHAPES):
            for number in range(count):
                one = scene.draw_scene(rng, shape, "red", "bob", 2.0)
                heard, step = sound.synthesise(one, rng), 1 + (number % 4 == 0)
                item = {"array": heard[::step].tolist(), "sampling_rate": RATE // step}
                rows[split].append({"audio": item, "label": label})
    sets = [datasets.Dataset.from_list(rows[split]) for split in ("train", "test")]
    encoder = Kept(toy)
    assert score(mteb, encoder, tasks.classification(*sets, "audio")) > 0.6  # chance: 0.125
    for row, vector in zip(rows["test"], encoder.given[1], strict=True):
        array, rate = np.asarray(row["audio"]["array"]), row["audio"]["sampling_rate"]
        own = toy.embed_audio(array, sample_rate=rate).vector()
        np.testing.assert_allclose(vector, own, atol=1e-6)
    features = Kept(toy, space="features_pooled")
    assert score(mteb, features, tasks.classification(*sets, "audio")) > 0.6
    assert features.given[1].shape == (24, 96)


@measured
def test_sentences_that_say_the_same_are_alike(mteb, tasks, toy, shown):
    """Spearman's correlation with how many of shape, colour and motion two scenes share."""
    import datasets
    from scipy import stats

    scenes, _, sentences, _ = shown
    pairs = list(itertools.combinations(range(COUNT), 2))
    said = np.array([(one.shape, one.colour, one.motion) for one in scenes])
    shared = [int(np.sum(said[a] == said[b])) for a, b in pairs]
    columns = {
        "sentence1": [sentences[a] for a, _ in pairs],
        "sentence2": [sentences[b] for _, b in pairs],
        "score": shared,
    }
    encoder = Kept(toy)
    found = score(mteb, encoder, tasks.sentence_pairs(datasets.Dataset.from_dict(columns)))
    texts = vectors(toy.embed_text(sentences), None)
    np.testing.assert_allclose(encoder.given[0], texts[[a for a, _ in pairs]], atol=1e-6)
    similar = [texts[a] @ texts[b] for a, b in pairs]
    assert found == pytest.approx(stats.spearmanr(similar, shared).statistic, abs=1e-4)
    assert found > 0.3


@measured
def test_videos_are_found(mteb, tasks, toy, shown):
    """By sentences, by sounds, and together with their sounds by sentences."""
    _, paths, sentences, waves = shown
    files = [str(path) for path in paths]
    wavs = [{"bytes": tasks.wav(x, RATE), "path": "heard.wav"} for x in waves]
    texts, videos, heard = (
        toy.embed_text(sentences), toy.embed_video(paths), toy.embed_audio(waves, sample_rate=RATE)
    )  # fmt: skip

    encoder = Kept(toy)
    found = score(mteb, encoder, tasks.retrieval({"text": sentences}, {"video": files}))
    sides = vectors(texts, "text_tovid"), vectors(videos, "video_totxt")
    np.testing.assert_allclose(encoder.given[1], sides[1], atol=1e-6)
    assert found == pytest.approx(recall(*sides))
    assert found > 0.7  # chance: 0.21

    encoder = Kept(toy)
    found = score(mteb, encoder, tasks.retrieval({"audio": wavs}, {"video": files}))
    sides = vectors(heard, "audio_tovid"), vectors(videos, "video_toaud")
    np.testing.assert_allclose(encoder.given[1], sides[1], atol=1e-6)
    assert found == pytest.approx(recall(*sides))
    assert found > 0.35

    encoder = Kept(toy)
    found = score(
        mteb, encoder, tasks.retrieval({"text": sentences}, {"video": files, "audio": wavs})
    )
    both = vectors(videos, "video_totxt") + vectors(heard, "audio_totxt")
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.given[1], both, atol=1e-6)
    assert found == pytest.approx(recall(vectors(texts, "text_tovid"), both))


@measured
def test_the_metadata_are_those_of_the_run(mteb, model):
    """A small run: its embeddings of video and sound are wider than those of text."""
    encoder = MtebEncoder(model)
    meta = encoder.mteb_model_meta
    assert meta.name == "vatt/tiny"
    assert meta.revision == model.checkpoint
    assert set(meta.modalities) == {"video", "audio", "text"}
    assert meta.max_tokens == model.parts[1].input.max_num_words
    own = model.embed_text("a red circle").vector()
    assert own.size in np.atleast_1d(meta.embed_dim)
    assert meta.n_parameters == model.parts[0].parameters
    assert meta.loader is None
    assert meta.to_dict()["framework"] == ["TensorFlow"]
    pooled = MtebEncoder(model, name="lab/ours", space="features_pooled").mteb_model_meta
    assert (pooled.name, pooled.experiment_kwargs) == ("lab/ours", {"space": "features_pooled"})


@measured
def test_similarities_are_cosines(mteb, model):
    encoder = MtebEncoder(model)
    a, b = np.random.default_rng(5).normal(size=(2, 3, 8)).astype(np.float32)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    np.testing.assert_allclose(encoder.similarity(a, b), unit[0] @ unit[1].T, atol=1e-6)
    pairs = encoder.similarity_pairwise(a, b)
    np.testing.assert_allclose(pairs, np.sum(unit[0] * unit[1], axis=1), atol=1e-6)


def encode(encoder, metadata, batch, **options):
    """What an encoder gives for one batch of a task."""
    options = {"show_progress_bar": False, "hf_split": "test", "hf_subset": "default", **options}
    return encoder.encode([batch], task_metadata=metadata, **options)


@pytest.fixture
def described(tasks):
    """Metadata of a task of sounds, or of other modalities."""
    import datasets

    rows = datasets.Dataset.from_dict({"audio": [], "label": []})
    metadata = tasks.classification(rows, rows, "audio").metadata
    return lambda *modalities: metadata.model_copy(update={"modalities": list(modalities)})


@measured
def test_classifiers_are_measured_by_their_features(described, classifier, place):
    encoder, file = MtebEncoder(classifier), place / "media" / "clip0.mkv"
    own = classifier.embed_video(file).vector()
    found = encode(encoder, described("video"), {"video": [{"path": str(file), "bytes": None}]})
    np.testing.assert_allclose(found, own[None], atol=1e-6)
    assert encoder.mteb_model_meta.modalities == ["video"]
    assert encoder.mteb_model_meta.embed_dim == own.size
    joint = copy.copy(classifier)
    joint._encoder = copy.copy(joint.parts[0])
    joint._encoder.together = True
    with pytest.raises(UserError, match="together: it has no embedding of one alone"):
        MtebEncoder(joint)


@pytest.mark.parametrize(
    ("modality", "item", "named"),
    [
        ("audio", {"array": [0.0] * 800}, "a sound as dict without 'array' and 'sampling_rate'"),
        ("audio", {"array": [0.0], "sampling_rate": None}, "a sound as dict without 'array' and"),
        ("audio", np.zeros(800), "a sound as ndarray without 'array' and 'sampling_rate'"),
        ("audio", None, "a row without audio"),
        ("video", [1], r"a video as list; accepted is a column of datasets\.Video"),
        ("video", {"path": "no.mp4", "bytes": None}, "no.mp4: there is no such file"),
    ],
)
@measured
def test_what_is_no_sound_or_video_is_refused(described, model, modality, item, named):
    with pytest.raises(DataError, match=named):
        encode(MtebEncoder(model), described(modality), {modality: [item]})


@measured
def test_what_the_model_does_not_compare_is_refused(described, model):
    encoder = MtebEncoder(model)
    with pytest.raises(DataError, match="a batch of video, without audio"):
        encode(encoder, described("audio"), {"video": [None]})
    with pytest.raises(UserError, match=r"none of the task's modalities \(image\)"):
        encode(encoder, described("image"), {"image": [None]})
    with pytest.raises(UserError, match="precision: 'int8'"):
        encode(encoder, described("audio"), {"audio": []}, precision="int8")
    apart = copy.copy(model)
    apart.spaces = ({"audio": "audio_tovid", "video": "video_toaud"},)
    with pytest.raises(UserError, match="no space of all of them; it compares audio with video"):
        encode(MtebEncoder(apart), described("audio", "text"), {"text": ["a"]})


@measured
def test_names_that_are_none_are_refused(mteb, model):
    with pytest.raises(UserError, match=r"space: 'features_poled'.*'features_pooled'\?"):
        MtebEncoder(model, space="features_poled")
    with pytest.raises(UserError, match="name: 'ours' is not 'organization/model'"):
        MtebEncoder(model, name="ours")
