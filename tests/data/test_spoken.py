"""Which captions a clip gets: those of its file, in the right language, in it and around it."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np
import pytest
import tensorflow as tf
from media_files import grey_frames, write

from vatt.data import cards, clips, media, records, text
from vatt.data.ingest import command, languages
from vatt.data.ingest.sources import Listing, beside
from vatt.data.records import said_inside

ASS = """[Script Info]

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """4 s."""
    return write(tmp_path_factory.mktemp("video") / "x.mp4", grey_frames(np.full(40, 90)), fps=10)


def with_subtitles(source, path, streams):
    """Copies a file and adds subtitles: (codec, language, [(start, end, text)]) each."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        copies = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        added = []
        for codec, language, _ in streams:
            stream = new.add_stream(codec)
            stream.codec_context.subtitle_header = ASS.encode()
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            stream.metadata["language"] = language
            added.append(stream)
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                new.mux(packet)
        for stream, (codec, _, told) in zip(added, streams, strict=True):
            for start, end, words in told:
                raw = words.encode()
                if codec == "mov_text":
                    raw = len(raw).to_bytes(2, "big") + raw
                if codec == "ass":
                    raw = b"0,0,Default,,0,0,0,," + raw
                packet = av.Packet(raw)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(1000 * start)
                packet.duration = round(1000 * (end - start))
                new.mux(packet)
    return path


def with_closed_captions(source, path, told):
    """Copies a video of H.264 with three bytes of closed captions (ATSC A/53) in each picture."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None]
        for packet, three in zip(packets, told, strict=True):
            message = b"\xb5\x00\x31GA94\x03\x41\xff" + three + b"\xff"
            unit = bytes([6, 4, len(message)]) + message + b"\x80"
            changed = av.Packet(len(unit).to_bytes(4, "big") + unit + bytes(packet))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.duration, changed.is_keyframe = packet.duration, packet.is_keyframe
            changed.stream = stream
            new.mux(changed)
    return path


def ingest(folder, output, *options) -> tuple[dict[str, records.ClipRecord], dict]:
    fixed = ["--min_side=16", "--sample_rate=8000", "--workers=1", "--fps=10"]
    assert command.main([f"--input={folder}", f"--output_dir={output}", *fixed, *options]) == 0
    shards = cards.read(output / "card.yaml").shards("train")
    found = [records.decode(raw) for path in shards for raw in records.read_shard(path)]
    known = json.loads((output / "manifest.json").read_text())
    return {f"{clip.source}@{clip.start:g}": clip for clip in found}, known


def said_in(serialised: bytes, seconds: float) -> list[bytes]:
    record = clips.parse(tf.constant(serialised))
    times = record.caption_starts, record.caption_ends
    found = text.said_inside(record.captions, *times, tf.constant(seconds))
    return found.numpy().tolist()


@pytest.mark.parametrize(
    ("ending", "codec"), [("mp4", "mov_text"), ("mkv", "subrip"), ("mkv", "ass"), ("mkv", "webvtt")]
)
def test_subtitles_inside_a_file(video, tmp_path, ending, codec):
    told = [(0.5, 2.0, "hello there"), (2.5, 3.0, "x < 3"), (3.2, 3.6, "late")]
    path = with_subtitles(
        video,
        tmp_path / f"a.{ending}",
        [(codec, "deu", [(1, 2, "hallo")]), (codec, "eng", told)],
    )

    def choose(tags):
        assert tags == ["deu", "eng"]
        return 1

    found, spoken, others = media.read_subtitles(path, 0.0, 3.0, choose)
    assert [cue for cue in found if cue[2]] == told[:2]
    assert (spoken, others) == (["deu", "eng"], [])
    assert media.read_subtitles(path, 0.0, 3.0, lambda tags: None)[0] == []
    assert media.read_subtitles(video, 0.0, 3.0, lambda tags: None) == ([], [], [])


@pytest.mark.parametrize(
    ("three", "noticed"),
    [
        (b"\xfc\xc8\x49", True),  # "HI" of CEA-608, with parity
        (b"\xff\x02\x21", True),  # CEA-708: a packet, a block of one byte of service 1
        (b"\xfc\x80\x80", False),  # filling
        (b"\xfc\x94\x2c", False),  # nothing is shown
        (b"\xf8\xc8\x49", False),  # does not count
        (b"\xfd\x01\x43", False),  # the second field: about the programme
    ],
)
def test_closed_captions_in_the_pictures_are_noticed(video, tmp_path, three, noticed):
    folder = tmp_path / "v"
    folder.mkdir()
    told = [b"\xfc\x80\x80"] * 40
    told[23] = three
    with_closed_captions(video, folder / "a.mp4", told)
    found, known = ingest(folder, tmp_path / "set", "--clip_seconds=2", "--clip_step=1")
    assert len(found) == 3 and not any(clip.captions for clip in found.values())
    kinds = [kind for kind in known["notices"] if kind.startswith("closed captions")]
    assert [known["notices"][kind] for kind in kinds] == [1] * noticed
    assert all("movie=NAME.mp4[out+subcc]" in kind for kind in kinds)


def test_captions_of_files_in_a_folder(video, tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    for name in ("inside.mkv", "talk.mkv"):
        streams = [("subrip", "ger", [(1, 2, "hallo")]), ("subrip", "eng", [(1, 2, "inside")])]
        with_subtitles(video, folder / name, streams)
    (folder / "long.mp4").write_bytes(video.read_bytes())
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\n{}\n\n00:09.000 --> 00:10.000\nof another film\n"
    (folder / "talk.de.vtt").write_text(vtt.format("daneben"))
    (folder / "talk.fr.vtt").write_text(vtt.format("ailleurs"))
    cues = "\n\n00:01.500 --> 00:01.900\nbefore\n\n00:01.900 --> 00:02.500\ninside\n"
    (folder / "long.vtt").write_text(f"WEBVTT{cues}")
    found, known = ingest(folder, tmp_path / "a", "--clip_seconds=2")
    assert [words for *_, words in found["inside.mkv@0"].captions] == ["inside"]
    assert [words for *_, words in found["talk.mkv@0"].captions] == ["daneben"]
    # What is said in a clip comes first, and it alone counts.
    assert [words for *_, words in found["long.mp4@2"].captions] == ["inside", "before"]
    counts = known["splits"]["train"]
    assert (counts["with_text"], counts["with_text_around"]) == (4, 2)
    several = "in several languages, one taken; --caption_language says which"
    assert known["notices"] == {  # of a file once, however many clips it has
        "captions taken from inside the file": 1,
        f"captions inside the file {several}": 1,
        f"captions beside the file {several}": 1,
        "captions of a file of which others are taken, or none of that language, left out": 1,
        "captions that begin after the end of the file, left out": 1,
    }
    found, known = ingest(folder, tmp_path / "b", "--caption_language=de")
    assert [words for *_, words in found["inside.mkv@0"].captions] == ["hallo"]
    assert [words for *_, words in found["talk.mkv@0"].captions] == ["daneben"]
    assert not any("several languages" in kind for kind in known["notices"])


def test_a_file_is_asked_for_by_what_is_said_in_it(video, tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(video.read_bytes())
    table = "start,end,text\n0.5,1.8,alpha\n1.7,2.1,bravo\n2.2,2.9,charlie\n"
    (folder / "a.csv").write_text(table)
    found, _ = ingest(folder, tmp_path / "set", "--clip_seconds=2")
    inside = {}
    for name, clip in found.items():
        assert len(clip.frames) == 20  # 2 s
        inside[name] = [sentence.decode() for sentence in said_in(records.encode(clip), 2.0)]
    # "bravo" is said in the first clip for the most part, though it is heard in the second, too.
    assert inside == {"a.mp4@0": ["alpha", "bravo"], "a.mp4@2": ["charlie"]}
    assert [words for *_, words in found["a.mp4@2"].captions] == ["bravo", "charlie", "alpha"]


def test_captions_without_times_are_said_in_the_clip():
    clip = records.ClipRecord("a", frames=[b"x"], captions=[(0.0, 0.0, "one"), (0.0, 0.0, "two")])
    example = tf.train.SequenceExample.FromString(records.encode(clip))
    del example.context.feature["caption/start"], example.context.feature["caption/end"]
    assert said_in(example.SerializeToString(), 5.0) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("start", "end", "seconds", "inside"),
    [
        (-3.0, -1.0, 10.0, False),
        (-3.0, 1.0, 10.0, False),
        (-1.0, 3.0, 10.0, True),
        (-50.0, 90.0, 10.0, True),
        (-50.0, 4.0, 10.0, False),
        (8.0, 13.0, 10.0, False),
        (0.0, 0.0, 10.0, True),
        (10.0, 10.0, 10.0, False),
        (0.0, 0.0, 0.0, True),  # a picture
        (-2.0, -1.0, 0.0, False),
    ],
)
def test_in_the_clip_is_what_lies_in_it_for_the_greater_part(start, end, seconds, inside):
    assert bool(said_inside(start, end, seconds)) is inside


def test_which_caption_file_is_of_which_media_file():
    media_files = ["intro.mp4", "intro.cut.mp4", "talk.mkv", "b/talk.mp4", "w.mp4", "n.mp4"]
    captions = ["intro.cut.vtt", "intro.old.srt", "talk.de.vtt", "talk.en-US.vtt", "talk.txt"]
    captions += ["b/talk.mp4.srt", "w.srt", "w.txt", "w.vtt", "lonely.en.vtt", "n.de.vtt"]

    def match(wanted):
        listing = Listing(None, [])
        found = beside.match(media_files, captions, wanted, listing)
        return found, {(kind, name): detail for name, _, _, kind, detail in listing.notices}

    found, told = match(None)
    assert found == {
        "intro.cut.mp4": "intro.cut.vtt",
        "talk.mkv": "talk.en-US.vtt",
        "b/talk.mp4": "b/talk.mp4.srt",
        "w.mp4": "w.vtt",
        "n.mp4": "n.de.vtt",
    }
    alone = "captions without a media file of that name, left out"
    others = "captions of a file of which others are taken, or none of that language, left out"
    several = (
        "captions beside the file in several languages, one taken; --caption_language says which"
    )
    assert told == {
        **{(alone, name): "" for name in ("intro.old.srt", "lonely.en.vtt")},
        **{(others, name): "" for name in ("talk.de.vtt", "talk.txt", "w.srt", "w.txt")},
        (several, "talk.mkv"): "en-US, of de, en",
    }
    found, told = match("de")
    assert (found["talk.mkv"], found["n.mp4"], found["w.mp4"]) == (
        "talk.de.vtt",
        "n.de.vtt",
        "w.vtt",
    )
    found, told = match("fr")
    assert (found.get("talk.mkv"), found.get("n.mp4")) == ("talk.txt", None)
    kind = "captions beside the file in other languages than --caption_language, left out"
    assert told[kind, "n.mp4"] == "de"


def test_languages():
    tags = ["en", "eng", "EN-us", "ger", "deu", "pt-BR", "zh-Hans-CN", "yue", "en-orig"]
    assert [languages.code(t) for t in tags] == [
        "en",
        "en",
        "en",
        "de",
        "de",
        "pt",
        "zh",
        "yue",
        "en",
    ]
    assert not any(languages.code(tag) for tag in ("", "cut", "old", "v2", "xx", "english", "mp4"))
    assert languages.choose(["zh-Hant", "zh-Hans"], "zh-Hans") == 1
    assert languages.choose(["de", ""], None) == 1
    assert languages.choose(["de", "fr"], "en") is None
    assert languages.choose([], None) is None
    with pytest.raises(SystemExit):
        command.parse_arguments(["--input=a", "--output_dir=b", "--caption_language=cut"])
