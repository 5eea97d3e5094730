"""Sets of features made by models: of records and of media, with recipes, going on, failures."""

from __future__ import annotations

import numpy as np
import pytest

from vatt import commands
from vatt.api import extraction
from vatt.data import cards, records
from vatt.data.features import AUDIO, VIDEO
from vatt.data.ingest import extracted
from vatt.data.media import MediaClip
from vatt.data.tokens import spectrogram
from vatt.errors import EXIT_DATA, EXIT_USAGE, DataError, UserError

KERAS = "mobile=keras:MobileNetV3Small@4"


def run(*arguments: object) -> int:
    return commands.main(["extract", *map(str, arguments)])


def stored(folder, split: str) -> dict[str, records.ClipRecord]:
    shards = cards.read(folder / "card.yaml").shards(split)
    found = (records.decode(record) for shard in shards for record in records.read_shard(shard))
    return {made.source: made for made in found}


@pytest.mark.slow
def test_records_become_features_of_towers_with_the_recipe_on_the_card(place, model, tmp_path):
    features = [f"--feature=seen={place}/runs/tiny@2", f"--sound_feature=heard={place}/runs/tiny@1"]
    given = [place / "records" / "acts", f"--output_dir={tmp_path}/made", "--spectrogram"]
    assert run(*given, *features) == 0
    source, card = (
        cards.read(p / "card.yaml") for p in (place / "records" / "acts", tmp_path / "made")
    )
    assert card.video is None and card.audio.feature == "logmel" and card.labels == source.labels
    assert card.splits.keys() == source.splits.keys() and card.tasks == source.tasks
    recipe = card.features["seen"].recipe
    assert recipe["checkpoint"] == model.checkpoint and recipe["modality"] == VIDEO
    assert {name: one.rate for name, one in card.features.items()} == {
        **{"seen": 2, "heard": 1, "logmel": 100},
    }
    for split in card.splits:
        media, made = stored(place / "records" / "acts", split), stored(tmp_path / "made", split)
        assert made.keys() == media.keys()
        for name, clip in made.items():
            seconds = clip.end - clip.start
            assert clip.frames is None and clip.waveform is None
            assert clip.labels == media[name].labels
            assert len(clip.features["seen"]) == max(1, np.ceil(2 * seconds - 1e-6))
            assert abs(len(clip.features["logmel"]) - 100 * seconds) <= 2


@pytest.mark.slow
def test_vectors_are_those_of_the_windows_nearest_to_their_times(place, model):
    (clip, *_) = stored(place / "records" / "acts", "train").values()
    (made,) = extraction.Tower("seen", model, VIDEO, 4.0)([clip])
    encoder, reader, _ = model.parts
    times = extraction.middles(clip, 4.0)
    assert len(made) == len(times)
    source = MediaClip(0.0, clip.end - clip.start, frames=clip.frames)
    (piece,) = reader.pieces(source, None, None, 0.25)
    taken = reader.read(piece, [VIDEO]).clips[VIDEO]
    windows = encoder({VIDEO: taken.values[:, 0]})["features_pooled"]
    middles = (taken.starts + taken.ends) / 2
    for vector, moment in zip(made, times, strict=True):
        nearest = np.abs(middles - moment).argmin()
        np.testing.assert_allclose(vector, windows[nearest], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_pictures_by_a_keras_application_and_what_is_kept(place, tmp_path):
    given = [place / "records" / "acts", f"--output_dir={tmp_path}/made", "--keep_media"]
    assert run(*given, f"--feature={KERAS}", "--weights=none", "--side=32") == 0
    card = cards.read(tmp_path / "made" / "card.yaml")
    recipe = card.features["mobile"].recipe
    assert recipe["model"] == "keras:MobileNetV3Small" and len(recipe["weights_sha256"]) == 64
    made = stored(tmp_path / "made", "train")
    clip = next(iter(made.values()))
    assert clip.frames and clip.waveform is not None and card.video is not None
    assert clip.features["mobile"].shape == (np.ceil(4 * (clip.end - clip.start) - 1e-6), 576)
    # Of a set of features with its media more can be extracted.
    assert run(tmp_path / "made", f"--output_dir={tmp_path}/more", "--spectrogram") == 0
    assert set(cards.read(tmp_path / "more" / "card.yaml").features) == {"mobile", "logmel"}


@pytest.mark.slow
def test_media_become_features_and_unreadable_files_are_listed(place, tmp_path, capsys):
    (tmp_path / "media").mkdir()
    for number in range(2):
        name = f"clip{number}.mkv"
        (tmp_path / "media" / name).write_bytes((place / "media" / name).read_bytes())
    (tmp_path / "media" / "broken.mkv").write_bytes(b"no video at all")
    given = [tmp_path / "media", f"--output_dir={tmp_path}/made", "--workers=1", "--spectrogram"]
    assert run(*given, f"--feature={KERAS}", "--weights=none", "--side=32") == EXIT_DATA
    told = capsys.readouterr()
    assert "broken.mkv" in told.err and "1 media files or clips failed" in told.out
    assert len(stored(tmp_path / "made", "train")) == 2


class Counted:
    """An extractor that counts how often it is asked, and fails for one clip."""

    name, rate, frame_rate = "ones", 1.0, 1.0

    def __init__(self, recipe: str = "ones", fails: str = ""):
        self.recipe, self.asked, self._fails = {"kind": recipe}, 0, fails

    def __call__(self, clips):
        for clip in clips:
            self.asked += 1
            failed = self._fails and self._fails in clip.source
            yield DataError("cannot be used") if failed else np.ones([2, 3], np.float32)


@pytest.mark.slow
def test_finished_shards_stay_and_another_recipe_makes_all_again(place, tmp_path):
    card = cards.read(place / "records" / "acts" / "card.yaml")
    first, again, other = Counted(), Counted(), Counted("other ones")
    made = extracted.make(card, tmp_path / "made", [first])
    assert first.asked == made.total["records"] == 9
    (tmp_path / "made" / ".shards").joinpath(
        f"{card.shards('train')[0].name}.json"
    ).unlink()  # interrupted before this one was finished
    extracted.make(card, tmp_path / "made", [again])
    assert 0 < again.asked < 9
    extracted.make(card, tmp_path / "made", [other])
    assert other.asked == 9


@pytest.mark.slow
def test_clips_that_fail_are_counted_and_listed(place, tmp_path):
    card = cards.read(place / "records" / "acts" / "card.yaml")
    made = extracted.make(card, tmp_path / "made", [Counted(fails="clip3")])
    assert made.total["records"] == 8
    assert [row[3] for row in made.failures] == ["ones: cannot be used"]
    assert "clip3" in (tmp_path / "made" / "failures.csv").read_text()


@pytest.mark.slow
def test_what_cannot_be_asked_for_is_refused(place, model, tmp_path, capsys):
    acts = place / "records" / "acts"
    assert run(acts, f"--output_dir={acts}", "--spectrogram") == EXIT_USAGE
    assert "is the set that features are made of" in capsys.readouterr().err
    given = [acts, f"--output_dir={tmp_path}/made"]
    assert run(*given, "--feature=x=keras:ResNet5O@1", "--weights=none") == EXIT_USAGE
    assert "Did you mean 'ResNet50'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(*given)
    with pytest.raises(SystemExit):
        run(*given, "--feature=x=runs/toy")
    assert "is not NAME=MODEL@RATE" in capsys.readouterr().err
    (clip, *_) = stored(acts, "train").values()
    with pytest.raises(UserError, match="--space: 'nothing'"):
        list(extraction.Tower("x", model, AUDIO, 1.0, "nothing")([clip]))


def test_a_spectrogram_is_that_of_the_waveform_at_16_khz():
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    clip = records.ClipRecord("x", 0.0, 1.0, sample_rate=16_000, waveform=waveform)
    found, nothing = extraction.Spectrogram()([clip, records.ClipRecord("x")])
    np.testing.assert_array_equal(found, spectrogram.log_mel(waveform * spectrogram.GAIN))
    assert nothing is None
