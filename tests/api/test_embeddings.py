"""Embeddings of files are those of evaluation; of sentences, arrays and lists; what is refused."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from vatt.api import naming
from vatt.api.results import UnusableError
from vatt.data import cards, records, streams
from vatt.errors import DataError, UserError
from vatt.evaluation import artefacts
from vatt.experiments import media_settings
from vatt.training.checkpoints import manifest_metadata

sys.path.insert(0, str(Path(__file__).parent))
import small_runs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("modality", "key"), [("video", "video_totxt"), ("audio", "audio_totxt")])
def test_a_file_has_the_embedding_that_evaluation_computed(place, model, modality, key):
    """Features that evaluation wrote for the ingested clips, file by file."""
    kept = artefacts.load(place / "runs" / "tiny" / "features" / f"acts-{modality}-test.npz")
    card = cards.load("acts", place / "records")
    stored = [r for s in streams.shards_of(card, "test") for r in records.read_shard(s.path)]
    files = [place / "media" / records.decode(stored[number]).source for number in kept["index"]]
    found = getattr(model, f"embed_{modality}")(files)
    assert len(found) == 3 and [one.source for one in found] == [str(file) for file in files]
    for one, pooled, embedded in zip(found, kept["pooled"], kept["embedded"], strict=True):
        np.testing.assert_allclose(one.in_space("features_pooled"), pooled, atol=1e-5)
        if embedded.shape[-1]:
            np.testing.assert_allclose(one.in_space(key), embedded, atol=1e-5)
        assert len(one) == 2 and one.starts[0] == 0 and one.checkpoint == model.checkpoint
    again = getattr(model, f"embed_{modality}")(files[1])
    np.testing.assert_allclose(again.in_space(), found[1].in_space(), atol=1e-5)


def test_words_become_what_zero_shot_classification_compares(model):
    one = model.embed_text("A red circle!")
    both = model.embed_text(["a red circle", "zero"])
    assert one.modality == "text" and len(both) == 2
    np.testing.assert_allclose(one.vector(), both[0].vector(), atol=1e-6)
    assert np.linalg.norm(one.vector()) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(both[0].vector(), both[1].vector(), atol=1e-3)
    assert not one.notices


def test_what_a_sentence_loses_is_told(model):
    assert "knows none of its words" in model.embed_text("quantum chromodynamics").notices[0]
    assert (
        "longer than the 6 words" in model.embed_text("a red circle moves left zero one").notices[0]
    )


def test_longer_files_have_windows_with_times_which_are_clips_of_their_own(place, model):
    """Each window is what the piece of the file with its times gives when it is asked for alone."""
    file = long_file(place)
    for embed, key in ((model.embed_video, "video_totxt"), (model.embed_audio, "audio_tovid")):
        found = embed(file)
        np.testing.assert_allclose(found.starts, [*np.arange(0, 40, 0.8), 39.5], atol=1e-9)
        np.testing.assert_allclose(found.ends - found.starts, 0.8, atol=1e-9)
        parts = found.windows()
        for number in (0, 1, 30, 40, 50):  # some are decoded with others, some after a seek
            one = parts[number]
            assert len(one) == 1
            alone = embed(file, start=float(one.starts[0]), end=float(one.ends[0]))
            assert len(alone) == 2  # evaluation's windows, of which both are all of it
            np.testing.assert_allclose(one.in_space(key), alone.in_space(key)[:1], atol=1e-5)
        assert not np.allclose(parts[0].vector(), parts[20].vector(), atol=1e-3)


def long_file(place):
    path = place / "long.mkv"
    if not path.exists():
        frames = small_runs.media_files.numbered_frames(403)
        sound = np.concatenate(
            [small_runs.media_files.tone(100 + 20 * s, 1, 1600) for s in range(41)]
        )
        small_runs.media_files.write(
            path, frames, sound[: round(1600 * 40.3)], fps=10, rate=1600, audio_codec="pcm_s16le"
        )
    return path


def test_a_stride_says_how_far_windows_lie_apart(place, model):
    found = model.embed_video(long_file(place), start=2.0, end=4.0, stride=0.3)
    np.testing.assert_allclose(found.starts, [2.0, 2.3, 2.6, 2.9, 3.2], atol=1e-9)
    short = model.embed_video(place / "media" / "clip0.mkv", stride=0.2)
    np.testing.assert_allclose(short.starts, [0.0, 0.2, 0.4], atol=1e-9)
    with pytest.raises(UserError, match="stride: 0 "):
        model.embed_audio(long_file(place), stride=0)


def test_the_sound_of_videos_is_embedded_without_their_pictures(place, model, monkeypatch):
    """Bit for bit as beside the pictures, with which a short file ends."""
    from vatt.data.media import reading

    media_files, files = small_runs.media_files, [place / "media" / "clip1.mkv"]
    for frames, seconds in ((8, 1.55), (12, 0.4), (16, 1.2)):
        path, sound = place / f"{frames}_{seconds}.mkv", media_files.tone(440, seconds, 1600)
        shown = media_files.numbered_frames(frames)
        files.append(media_files.write(path, shown, sound, fps=10, rate=1600, audio_codec="flac"))
    both = [found["audio"] for _, found in model.embed_files(files)]
    monkeypatch.setattr(reading.Pictures, "decode", None)
    for alone, beside in zip(model.embed_audio(files), both, strict=True):
        np.testing.assert_array_equal(alone.in_space(), beside.in_space())
        np.testing.assert_array_equal(alone.ends, beside.ends)


def test_long_videos_end_with_their_pictures_but_for_the_sound_alone(place, model, monkeypatch):
    from vatt.api import windows

    monkeypatch.setattr(windows, "TOGETHER", 2.0)
    frames, sound = (small_runs.media_files.numbered_frames(43), np.ones(8000) / 2)
    path = place / "longer_sound.mkv"
    small_runs.media_files.write(path, frames, sound, fps=10, rate=1600, audio_codec="flac")
    ((_, both),) = model.embed_files([path])
    for found in both.values():
        assert found.ends[-1] == pytest.approx(4.3) and not found.gaps
        assert "from 4.30 to 5.00 s" in found.notices[0]
    assert model.embed_audio(path).ends[-1] == pytest.approx(5.0)


def test_memory_does_not_grow_with_the_length_of_a_file(place, model, monkeypatch):
    """At most half a minute is decoded at a time, and few clips are there at once."""
    from vatt.api import encoding, windows
    from vatt.data import media

    asked, read = [], media.read_clip
    monkeypatch.setattr(media, "read_clip", lambda *a, **k: asked.append(a[1:]) or read(*a, **k))
    alive, most, take = [], [], windows.Reader.read

    def counting(*arguments):
        taken = take(*arguments)
        alive.append(weakref.ref(taken.clips["video"].values))
        most.append(sum(ref() is not None for ref in alive))
        return taken

    monkeypatch.setattr(windows, "TOGETHER", 2.0)
    monkeypatch.setattr(encoding, "MOST_ROWS", 4)
    monkeypatch.setattr(encoding, "available_cores", lambda: 1)
    monkeypatch.setattr(windows.Reader, "read", counting)
    assert len(model.embed_video(long_file(place))) == 51
    assert len(asked) == 25
    assert all((40.3 if end is None else end) - start <= 2.01 for start, end in asked)
    assert max(most) <= 8


def test_arrays_are_files_that_have_been_decoded(place, model):
    """Of pictures that lose nothing on the way, and of samples as they are."""
    frames = small_runs.media_files.numbered_frames(12, 20, 40)
    frames[:, :, 20:] = np.arange(12, dtype=np.uint8)[:, None, None, None] * 20
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, 1920).astype(np.float32)
    path = small_runs.media_files.write(
        place / "lossless.mkv", frames, np.round(sound * 2**15) / 2**15, fps=10, rate=1600,
        video_codec="ffv1", pixels="bgr0", audio_codec="pcm_s16le",
    )  # fmt: skip
    file, array = model.embed_video(path), model.embed_video(frames)
    np.testing.assert_allclose(array.in_space(), file.in_space(), atol=1e-4)
    np.testing.assert_array_equal(array.starts, file.starts)
    heard = model.embed_audio(np.round(sound * 2**15).astype(np.int16), sample_rate=1600)
    np.testing.assert_allclose(heard.in_space(), model.embed_audio(path).in_space(), atol=1e-4)
    twice = model.embed_video(np.repeat(frames, 2, axis=0), fps=20)
    np.testing.assert_allclose(twice.in_space(), array.in_space(), atol=1e-5)
    assert len(model.embed_video([np.tile(frames, (20, 1, 1, 1)), frames])[0]) == 30


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 20, 20, 3)), r"float64 \[4, 20, 20, 3\]; accepted is uint8"),
        (np.zeros((20, 20, 3), np.uint8), r"uint8 \[20, 20, 3\]"),
    ],
)
def test_arrays_that_are_no_videos_are_refused(model, array, message):
    with pytest.raises(DataError, match=message):
        model.embed_video(array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(9, np.uint8), r"uint8 \[9\]"),
        (np.zeros((2, 900)), "transpose it"),
        (np.array([0.0, np.nan]), "not finite"),
    ],
)
def test_arrays_that_are_no_sounds_are_refused(model, array, message):
    with pytest.raises(DataError, match=message):
        model.embed_audio(array)


def test_files_that_cannot_be_used_are_told_and_the_others_kept(place, model):
    (place / "broken.mp4").write_bytes(b"no video at all")
    silent = small_runs.media_files.write(place / "silent.mkv", np.zeros((30, 20, 24, 3), np.uint8))
    good = place / "media" / "clip0.mkv"
    with pytest.raises(UnusableError, match=r"2 of 3 .*\n.*broken.mp4: not a media file") as error:
        model.embed_audio([place / "broken.mp4", good, silent])
    assert [r is None for r in error.value.results] == [True, False, True]
    assert [reason for _, reason in error.value.failures][1] == "the file has no sound"
    with pytest.raises(UnusableError, match=r"nowhere\.mp4: there is no such file"):
        model.embed_video("nowhere.mp4")
    assert model.embed_video([]) == []


def test_a_run_without_its_data_knows_how_its_records_were_made(place):
    run = place / "runs" / "tiny"
    facts = manifest_metadata(run / "ckpt-3")
    told = {"fps": 10.0, "min_side": 20, "jpeg_quality": 90, "downmix": "auto", "told_by": "acts"}
    assert facts["records"] == told
    cfg = naming.find(run, data_dir=place / "nowhere").cfg
    assert media_settings.of_run(cfg, run, facts) == media_settings.MediaSettings(**told)
    unknown = media_settings.of_run(cfg, run, {"records": {"fps": "fast"}})
    assert unknown == media_settings.MediaSettings() and unknown.told_by == media_settings.DEFAULTS
    here = naming.find(run, data_dir=place / "records").cfg
    assert media_settings.of_run(here, run).min_side == 20
