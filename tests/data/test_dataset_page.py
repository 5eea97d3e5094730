from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from record_sets import LABELS, clip, jpeg, write_set

from vatt.data import cards
from vatt.data.ingest import levels, summary
from vatt.data.ingest import page as dataset_page
from vatt.errors import DataError

CLIPS = {
    "train": [
        clip("a.mp4"),
        clip("b.mp4", 3.0, 3.25, waveform=None, labels=["cat"], label_indices=[0]),
        clip("c.mp4", 0.0, 10.0, captions=[]),
        clip("d.wav", 0.0, 7200.0, frames=None, labels=["cat", "dog"], label_indices=[0, 1]),
    ],
    "test": [clip("e.mp4", labels=[], label_indices=[])],
}


class Page(HTMLParser):
    """Collects the text of a page, its links and what its pictures are."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "src":
                self.images.append(value)
            if name == "href":
                self.links.append(value)

    def handle_data(self, data):
        if data.strip():
            self.text.append(data)


def make(folder, clips=CLIPS, failures=(), **settings) -> str:
    card, stats = write_set(folder, clips)
    return dataset_page.write(folder, card, stats, failures, settings).read_text(encoding="utf-8")


# Counting ----------------------------------------------------------------------------------------


def test_a_tally_counts_what_there_is():
    tally = summary.Tally("train", show=2)
    for one in CLIPS["train"]:
        tally.add(one)
    stats = json.loads(json.dumps(tally.stats()))  # it must survive a file
    shown = stats.pop("samples")
    assert [sample["source"] for sample in shown] == ["a.mp4", "b.mp4"]
    heard = [one.waveform for one in CLIPS["train"] if one.waveform is not None]
    assert stats == {
        "records": 4,
        "seconds": 1.5 + 0.25 + 10.0 + 7200.0,
        "shortest": 0.25,
        "longest": 7200.0,
        "with_video": 3,
        "with_audio": 3,
        "with_text": 3,
        "with_labels": 4,
        "durations": {"under 0.5 s": 1, "1.5 - 2 s": 1, "10 - 15 s": 1, "1800 s or more": 1},
        "classes": {"cat": 2, "dog": 3},
        "sizes": [[24, 32]],
        "levels": levels.total(levels.of(sound, 1000) for sound in heard),
    }


def test_durations_fall_into_the_bin_that_begins_with_them():
    rng = np.random.default_rng(0)
    lengths = [*summary.DURATION_EDGES, *rng.uniform(0.01, 3000, 200)]
    tally = summary.Tally("train")
    for length in lengths:
        tally.add(clip("x", 0.0, float(length), frames=None, waveform=None))
    edges = [0.0, *summary.DURATION_EDGES, np.inf]
    truth, _ = np.histogram(lengths, edges)
    counts = tally.stats()["durations"]
    assert [counts.get(name, 0) for name in summary.DURATIONS] == truth.tolist()


def test_totals_do_not_depend_on_how_clips_were_sharded(tmp_path):
    _, one = write_set(tmp_path / "one", CLIPS, shards=1)
    _, four = write_set(tmp_path / "four", CLIPS, shards=4)
    assert len(four) == 5
    assert summary.by_split(one) == summary.by_split(four)
    assert list(summary.by_split(one)) == ["test", "train"]
    assert summary.totals([])["records"] == 0


def test_facts_of_an_earlier_version_lack_some_keys():
    old = {"records": 2, "seconds": 3.0, "with_video": 2, "with_audio": 1, "with_text": 0}
    total = summary.totals([old])
    assert (total["records"], total["with_labels"], total["classes"]) == (2, 0, {})


def test_samples_of_an_earlier_version_are_shown(tmp_path):
    card, stats = write_set(tmp_path / "pets", CLIPS)
    page = dataset_page.write(tmp_path / "pets", card, stats, [], {}).read_bytes()
    for shard in stats:
        for sample in shard["samples"]:
            sample["facts"] = sample.pop("properties")
    assert dataset_page.write(tmp_path / "pets", card, stats, [], {}).read_bytes() == page


def test_the_manifest_has_the_counts_of_each_split(tmp_path):
    write_set(tmp_path / "pets", CLIPS)
    manifest = json.loads((tmp_path / "pets" / "manifest.json").read_text())
    assert manifest["records"] == 5
    assert manifest["splits"]["train"]["classes"] == {"cat": 2, "dog": 3}
    assert manifest["splits"]["train"]["durations"]["1800 s or more"] == 1
    assert manifest["splits"]["test"]["with_labels"] == 0
    assert [shard["records"] for shard in manifest["shards"]] == [2, 2, 1]


# Labels and card ---------------------------------------------------------------------------------


def test_labels_are_read_again(tmp_path):
    assert summary.read_labels(tmp_path) is None
    (tmp_path / "labels.txt").write_text("zebra\napple\n")
    assert summary.read_labels(tmp_path) == ["zebra", "apple"]
    (tmp_path / "labels.txt").write_text("zebra\n\napple\n")
    with pytest.raises(DataError, match="class 1 has no name"):
        summary.read_labels(tmp_path)


def test_the_card_says_what_is_there(tmp_path):
    card, _ = write_set(tmp_path / "pets", CLIPS)
    assert (card.labels, card.label_file) == (LABELS, "labels.txt")
    assert card.tasks == ["pretrain", "retrieval", "video_classification", "audio_classification"]
    assert (card.video.height, card.video.width, card.audio.sample_rate) == (24, 32, 1000)
    assert {name: split.records for name, split in card.splits.items()} == {"train": 4, "test": 1}
    still = clip("x.jpg", frames=[jpeg(), jpeg(size=(8, 8))], waveform=None, captions=[])
    other = clip("y.jpg", frames=[jpeg(size=(40, 40))], waveform=None, captions=[])
    card, _ = write_set(tmp_path / "photos", {"train": [still, other]})
    assert card.tasks == ["video_classification"]  # with nothing to compare pictures with
    assert (card.video.height, card.audio, card.text) == (None, None, None)


def test_a_described_set_keeps_its_description(tmp_path):
    card, _ = write_set(tmp_path / "toy_retrieval", CLIPS)
    known = cards.describe("toy_retrieval")
    assert card.description == known.description != ""
    assert (card.licence, card.tasks) == (known.licence, known.tasks)
    assert card.labels == LABELS


# The page ----------------------------------------------------------------------------------------


def test_the_page_shows_the_counts(tmp_path):
    page = Page(make(tmp_path / "pets", fps=10.0, min_side=256, num_shards=None))
    text = page.text
    row = text.index("train")
    assert text[row : row + 10] == ["train", "4", "2.00", "0.25 s", "7200.00 s", *"1110", "0"]
    row = text.index("test")
    assert text[row : row + 10] == ["test", "1", "0.00", "1.50 s", "1.50 s", *"0001", "0"]
    assert text[text.index("dog") :][:2] == ["dog", "test 0, train 3"]
    assert text[text.index("under 0.5 s") + 1] == "1"
    assert text[text.index("0.5 - 1 s") + 1] == "0"  # a gap in the histogram is shown as one
    assert text[text.index("min_side") + 1] == "256"
    assert text[text.index("num_shards") + 1] == "not set"
    assert "2 classes without a clip in test: cat, dog" in text
    assert not any("could not be stored" in part for part in text)


def test_the_page_loads_nothing_and_its_pictures_can_be_decoded(tmp_path):
    content = make(tmp_path / "pets", failures=[["x.mp4", None, None, "no"]])
    page = Page(content)
    assert page.links == ["failures.csv"]
    assert "http:" not in content
    assert "https:" not in content
    assert "script" not in page.tags
    assert len(page.images) == 3 * 3  # of a, c and e, the first shards of their splits
    for image in page.images:
        kind, _, data = image.partition(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (32, 24)


def test_the_page_is_a_function_of_the_clips(tmp_path):
    pages = [make(tmp_path / where / "pets", failures=[["x", 0, 1, "no"]]) for where in "ab"]
    assert pages[0] == pages[1]


def test_the_page_stays_small(tmp_path):
    rng = np.random.default_rng(0)

    def noise() -> bytes:
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        return file.getvalue()

    clips = [clip(f"{k}.mp4", frames=[noise() for _ in range(6)]) for k in range(8)]
    page = make(tmp_path / "noise", {"train": clips})
    assert 100_000 < len(page) < dataset_page.MAX_SAMPLE_BYTES + 20_000


def test_failures_are_grouped_by_reason(tmp_path):
    failures = [[f"v{k}.mp4", None, None, f"v{k}.mp4: ends at {k}.5 s"] for k in range(12)]
    failures += [["w.mp4", 1.0, 2.0, "no such file"]]
    text = Page(make(tmp_path / "pets", failures=failures)).text
    assert "13 clips could not be stored" in text
    row = text.index("12")
    assert text[row : row + 4] == [
        "12",
        "v0.mp4: v0.mp4: ends at 0.5 s",
        "1",
        "w.mp4: no such file",
    ]


def test_names_cannot_become_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    nasty = clip(evil, labels=[evil], captions=[(0.0, 1.0, evil)])
    card, stats = write_set(tmp_path / "pets", {"train": [nasty]})
    card.labels = [evil]
    failures = [[evil, None, None, evil]]
    path = dataset_page.write(tmp_path / "pets", card, stats, failures, {"name": evil})
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert sum(part.count(evil) for part in page.text) >= 5


def test_many_classes_are_folded_away(tmp_path):
    card, stats = write_set(tmp_path / "pets", CLIPS)
    card.labels = [f"class {k:03d}" for k in range(300)]
    for shard in stats:
        shard["classes"] = {"class 007": 5}
    path = dataset_page.write(tmp_path / "pets", card, stats, [], {})
    page = Page(path.read_text(encoding="utf-8"))
    assert page.tags.count("b") == 40 + len(summary.DURATIONS)
    assert "260 rarer classes" in page.text
    bars = [part for part in page.text if part.startswith("class ")]
    assert bars[:2] == ["class 007", "class 000"]
    assert page.text[page.text.index("class 007") + 1] == "test 5, train 10"
    assert any("; class 299: test 0, train 0" in part for part in page.text)


def test_groups_of_labels_have_charts_of_their_own(tmp_path):
    card, stats = write_set(tmp_path / "pets", CLIPS)
    card.labels, card.attributes = ["size=big", "size=small", "tame"], ["size"]
    stats[0]["classes"] = {"size=small": 2, "tame": 1}
    text = Page(
        dataset_page.write(tmp_path / "pets", card, stats, [], {}).read_text(encoding="utf-8")
    ).text
    row = text.index("size")
    two, none = "test 0, train 2", "test 0, train 0"
    assert text[row : row + 5] == ["size", "small", two, "big", none]
    assert text.index("tame") < row


def test_of_one_split_a_class_has_one_number_and_no_sound_has_no_rate(tmp_path):
    card, stats = write_set(tmp_path / "pets", {"train": CLIPS["train"][:2]}, shards=1)
    path = dataset_page.write(tmp_path / "pets", card, stats, [], {})
    page = Page(path.read_text(encoding="utf-8"))
    assert page.text[page.text.index("dog") :][:2] == ["dog", "1"]
    heard = [part for part in page.text if " fps, " in part]
    assert ["1000 Hz" in part for part in heard] == [True, False]  # a.mp4, b.mp4


def test_classes_of_many_splits_are_a_table(tmp_path):
    """Beside a bar each class would name all folds."""
    folds = {f"{part}_{n}": CLIPS["train"] for n in (1, 2) for part in ("test", "train")}
    page = Page(make(tmp_path / "acts", folds))
    place = page.text.index("dog", page.text.index("class"))
    assert page.text[place : place + 5] == ["dog", "3", "3", "3", "3"]
    assert page.text[page.text.index("class") :][1:5] == sorted(folds)
