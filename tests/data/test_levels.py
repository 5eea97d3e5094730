"""How loud a set is: counted in ingest, shown on its page and by check, told where it matters."""

from __future__ import annotations

import csv
import json
import re

import media_files
import numpy as np
import pytest
import record_sets

from vatt.data.check import report
from vatt.data.check.splits import check_splits
from vatt.data.ingest import command as ingest
from vatt.data.ingest import levels, page, summary

RATE = 1000


def tone(decibels, seconds=1.0):
    """A sine whose peak is at `decibels`; its RMS is 3.01 dB below that."""
    times = np.arange(int(seconds * RATE)) / RATE
    return (10 ** (decibels / 20) * np.sin(2 * np.pi * 100.3 * times)).astype(np.float32)


def counted(*sounds):
    return levels.total(levels.of(sound, RATE) for sound in sounds)


def told(*sounds):
    return "\n".join(": ".join(notice[:2]) for notice in levels.notices(counted(*sounds)))


def test_figures_of_tones():
    sounds = [tone(peak) for peak in (-3, -20, -21, -22, -50)]
    figures = levels.figures(counted(*sounds))
    assert figures["RMS, middle"] == "-25 dB"  # of -24.01, whole dB downwards
    assert (figures["5 %"], figures["95 %"]) == ("-54 dB", "-7 dB")
    assert figures["peak"] == "-3 dB" and figures["silent clips"] == "0"


def test_silence_is_a_share_of_the_time_and_has_no_level():
    half = np.concatenate([tone(-10), np.zeros(RATE, np.float32)])
    counts = counted(half, np.zeros(2 * RATE, np.float32))
    figures = levels.figures(counts)
    assert (figures["silent time"], figures["silent clips"]) == ("75 %", "1")
    assert figures["RMS, middle"] == "-17 dB"  # of the one that sounds: -13 - 3
    assert "silent for most of the time: 75% of it" in told(half, np.zeros(2 * RATE, np.float32))
    assert levels.figures(counted(np.zeros(50, np.float32)))["RMS, middle"] == "none"
    assert "silent sounds: nothing is above -60 dB: 1 of 4" in told(
        *[tone(-9)] * 3, np.zeros(9, np.float32)
    )


def test_what_is_told_of_a_level():
    assert told(*[tone(peak) for peak in (-30, -34, -40)]).startswith("quiet sounds,")
    assert told(*[tone(-3)] * 5, tone(-8)) == ""
    differing = told(tone(-50), tone(-4), tone(-4))
    assert differing.endswith("(docs/configuration.md): from -54 to -8 dB (RMS)")
    overdriven = np.sign(tone(0)).astype(np.float32)
    assert "more than 1% of the time: 2 of 2" in told(overdriven, overdriven)
    assert levels.notices({}) == []


def test_shards_add_up_to_what_their_clips_are_together():
    sounds = [tone(peak, 0.5 + 0.1 * n) for n, peak in enumerate((-3, -10, -33, -70))]
    parts = [counted(*sounds[:1]), {}, counted(*sounds[1:])]
    assert levels.total(parts) == counted(*sounds)
    assert levels.of(np.zeros(0, np.float32), RATE) == {}


@pytest.fixture
def quiet(tmp_path):
    """A set of which one split is quiet."""

    def clips(level):
        return [record_sets.clip(f"{level}{n}", waveform=tone(level, 1.5)) for n in range(3)]

    return record_sets.write_set(tmp_path / "soft", {"train": clips(-35), "test": clips(-6)})


def test_a_quiet_set_is_told_of_by_its_page_its_manifest_and_check(quiet):
    card, stats = quiet
    splits = json.loads((card.folder / "manifest.json").read_text())["splits"]
    assert splits["train"]["levels"]["rms"] == {"-39": 3}
    assert splits["test"]["levels"]["rms"] == {"-10": 3}
    _, notices = summary.write_summary(card.folder, stats)
    assert [(row[0], row[4]) for row in notices] == [
        ("split train", "half of them are below -38 dB (RMS)")
    ]
    text = page.write(card.folder, card, stats, [], {}, notices).read_text()
    assert "Level of the sound" in text and "quiet sounds" in text
    said = report.describe(check_splits(card, workers=1))
    assert re.search("note: split 'train': quiet sounds.*half of them are below -38 dB", said)
    assert "train, level of the sound: RMS, middle -39 dB" in said
    assert "all is well" in said  # a quiet set can be used


def test_sets_made_before_levels_were_counted_have_none(quiet):
    card, stats = quiet
    older = [{key: value for key, value in shard.items() if key != "levels"} for shard in stats]
    assert "levels" not in summary.totals(older)
    assert "Level of the sound" not in page.write(card.folder, card, older, [], {}).read_text()


def test_silent_clips_are_told_once_by_their_names(tmp_path, capsys):
    rate = 8000
    sounds = {"loud": 0.5, "soft": 1e-4, "zero": 0.0}  # -6, -80 dB and nothing
    for name, amplitude in sounds.items():
        for part in range(1 + 2 * (name == "loud")):
            path = tmp_path / f"media/{name}{part}.wav"
            path.parent.mkdir(exist_ok=True)
            sound = media_files.tone(440, 1, rate, amplitude)
            media_files.write(path, sound=sound, rate=rate, audio_codec="pcm_f32le")
    options = ["--sample_rate=8000", "--workers=1", f"--output_dir={tmp_path / 'set'}"]
    assert ingest.main(["--input", str(tmp_path / "media"), *options]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "silent sound" in line]
    assert lines == ["  silent sounds: nothing is above -60 dB: 2 (soft0.wav, zero0.wav)"]
    with (tmp_path / "set/notices.csv").open(newline="", encoding="utf-8") as file:
        rows = [row["path"] for row in csv.DictReader(file) if "silent" in row["kind"]]
    assert rows == ["soft0.wav", "zero0.wav"]
    total = json.loads((tmp_path / "set/manifest.json").read_text())
    counts = total["splits"]["train"]["levels"]
    assert (counts["silent_clips"], counts["clips"]) == (2, 5)


@pytest.mark.parametrize("peak", [-50, -56, -57, -58, -70])
def test_a_silent_clip_is_one_that_counts_as_such(peak):
    short = np.concatenate([tone(peak, 0.05), np.zeros(20 * RATE, np.float32)])
    for sound in (tone(peak), short, short[:0]):
        assert levels.is_silent(sound, RATE) == bool(levels.of(sound, RATE).get("silent_clips"))
    assert levels.is_silent(tone(peak), RATE) == (peak < -57)


def test_what_neither_sounds_nor_has_captions_is_not_for_pretraining(tmp_path):
    mute = [record_sets.clip(f"m{n}", waveform=None, sample_rate=0, captions=[]) for n in range(2)]
    spoken = [record_sets.clip(f"s{n}", waveform=None, sample_rate=0) for n in range(2)]
    for name, clips, fit in (("mute", mute, False), ("spoken", spoken, True)):
        card, _ = record_sets.write_set(tmp_path / name, {"train": clips})
        assert ("pretrain" in card.tasks) == fit
