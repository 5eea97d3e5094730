from __future__ import annotations

import math

import pytest

from vatt.data.ingest.captions import overlapping, read_captions, seconds
from vatt.errors import DataError
from vatt.notices import Notices

CUE = "1\n00:00:01,000 --> 00:00:02,000\n- so --> that\n\n"


def side_file(tmp_path, name: str, text: str | bytes):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.5", 12.5),
        (" 7 ", 7.0),
        ("02:03.5", 123.5),
        ("1:02:03,250", 3723.25),
        ("100:00:00", 360000.0),
    ],
)
def test_times(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1:2:3:4", "1:-2", "1e300"])
def test_what_is_not_a_time(text):
    with pytest.raises(ValueError):
        seconds(text)


@pytest.mark.parametrize("digits", [12, 400, 5000])
def test_times_beyond_any_recording(tmp_path, digits):
    for text in (f"{'9' * digits}:00:00", "9" * digits):
        with pytest.raises(ValueError):
            seconds(text)
    cues = f"WEBVTT\n\n{'9' * digits}:00:00.000 --> 00:01.000\nhello\n"
    with pytest.raises(DataError, match="is not 'start --> end'"):
        read_captions(side_file(tmp_path, "a.vtt", cues))
    with pytest.raises(DataError, match="line 2"):
        read_captions(side_file(tmp_path, "a.csv", f"start,end,text\n0,{'9' * digits},a\n"))


def test_webvtt(tmp_path):
    text = (
        "\ufeffWEBVTT - a title\r\nKind: captions\r\n\r\nNOTE\r\nnot spoken\r\n\r\n"
        "STYLE\r\n::cue { color: red }\r\n\r\n"
        "intro\r\n00:01.000 --> 00:02.500 align:start position:0%\r\n"
        "<v Ann>one <i>two</i>\r\nthree &lt;3\r\n\r\n"
        "00:00:00.250 --> 00:00:00.750\r\nfirst<00:00:00.500> in time\r\n\r\n"
        "00:03.000 --> 00:04.000\r\n\r\n"
    )
    assert read_captions(side_file(tmp_path, "a.VTT", text)) == [
        (0.25, 0.75, "first in time"),
        (1.0, 2.5, "one two three <3"),
    ]


def test_subrip(tmp_path):
    text = (
        "1\n00:00:01,500 --> 00:00:02,000\n{\\an8}<b>über</b> uns\n\n\n"
        "2\n01:00:00,000 --> 01:00:01,000\n- zwei\n- Zeilen"
    )
    assert read_captions(side_file(tmp_path, "a.srt", text)) == [
        (1.5, 2.0, "über uns"),
        (3600.0, 3601.0, "- zwei - Zeilen"),
    ]


def test_only_an_empty_line_ends_a_cue_of_webvtt(tmp_path):
    text = (
        "WEBVTT\n\n00:01.000 --> 00:02.000\n \none\n \ntwo\n \n7\n00:03.000 --> 00:04.000\nthree\n"
    )
    told = [(1.0, 2.0, "one two"), (3.0, 4.0, "three")]
    assert read_captions(side_file(tmp_path, "a.vtt", text)) == told


def test_a_cue_of_subrip_ends_with_the_next_one(tmp_path):
    text = (
        "1\n00:00:01,000 --> 00:00:02,000\na --> b\n\nand c\n12\n\n"
        "2\n00:00:03,000 --> 00:00:04,000\nx\n3\n00:00:05,000 --> 00:00:06,000\n1984"
    )
    told = [(1.0, 2.0, "a --> b and c 12"), (3.0, 4.0, "x"), (5.0, 6.0, "1984")]
    assert read_captions(side_file(tmp_path, "a.srt", text)) == told


@pytest.mark.parametrize(
    ("cue", "words"),
    [
        ("if x < 3 and y > 2 <i>then</i>", "if x < 3 and y > 2 then"),
        ("x &lt; 3 &amp; a <b and c> d", "x < 3 & a <b and c> d"),
        ("one<br>two<BR/>three\\Nfour\\hfive", "one two three four five"),
        ('<font color="#fff" size=2>red</font> {i}it{/i} {\\an8}is', "red it is"),
        ("<c.yellow.bg_blue>a</c> <v Ann Lee>b</v> <lang en-GB>c</lang>", "a b c"),
        ("&lt;i&gt;it&lt;/i&gt; is", "it is"),
        ("we<00:00:01.000><c> cut</c><01:02.5> it", "we cut it"),
        ("\u200bon\u00adly\ufeff \u200e this", "only this"),
    ],
)
def test_only_tags_are_taken_out_of_a_cue(tmp_path, cue, words):
    text = f"WEBVTT\n\n00:01.000 --> 00:02.000\n{cue}\n\n00:03.000 --> 00:04.000\n\u200b\n"
    assert read_captions(side_file(tmp_path, "a.vtt", text)) == [(1.0, 2.0, words)]


def test_a_map_in_the_header_shifts_to_the_start_of_the_media(tmp_path):
    text = (
        "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:270000\n\n"
        "00:00.500 --> 00:01.000\none\n\n"
        "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:02.000\n\n"
        "00:02.500 --> 00:03.000\ntwo\n\n"
        "not in time\n"
    )
    path, notices = side_file(tmp_path, "a.vtt", text), Notices()
    told = [(3.5, 4.0, "one"), (10.5, 11.0, "two")]
    assert read_captions(path, notices) == told
    kinds = [notice.kind for notice in notices]
    assert kinds == [
        "captions with a time map in their header, shifted by it",
        "paragraphs without times in captions, left out",
    ]
    assert next(iter(notices)).detail == "a.vtt: 3 s, 8 s"
    earlier = [(begin - 1.4, end - 1.4, text) for begin, end, text in told]
    for begun in (1.4, 1.4 + 2**33 / 90_000, 1.4 - 2**33 / 90_000):  # the clock has begun again
        for found, wanted in zip(
            read_captions(path, None, lambda s=begun: s), earlier, strict=True
        ):
            assert found == (pytest.approx(wanted[0]), pytest.approx(wanted[1]), wanted[2])
    for given in ("LOCAL:0,MPEGTS:x", "LOCAL", "", "LOCAL:0,MPEGTS:" + "9" * 4000):
        bad = side_file(tmp_path, "b.vtt", f"WEBVTT\nX-TIMESTAMP-MAP={given}\n")
        with pytest.raises(DataError, match=f"X-TIMESTAMP-MAP={given[:50]}") as caught:
            read_captions(bad)
        assert len(str(caught.value)) < 500


def test_a_comma_without_quotes_is_a_part_of_the_last_column(tmp_path):
    text = 'start,end,text\n0,1,do not stop, go on\n\n1,2,"a, b"\n2,3\n5,4,back\n6,6,at once\n'
    notices = Notices()
    assert read_captions(side_file(tmp_path, "a.csv", text), notices) == [
        (0.0, 1.0, "do not stop, go on"),
        (1.0, 2.0, "a, b"),
        (6.0, 6.0, "at once"),
    ]
    assert {notice.kind: notice.detail for notice in notices} == {
        "captions without text, left out": "a.csv: 1 of 5",
        "captions that end before they begin, left out": "a.csv: 1 of 4",
        "captions that end when they begin, kept": "a.csv: 1 of 4",
    }
    assert all(notice.whole_file for notice in notices)


def test_a_moment_is_in_one_of_two_clips_that_follow_each_other():
    told = [(2.0, 2.0, "now")]
    assert overlapping(told, 0.0, 2.0, 0.0) == []
    assert overlapping(told, 2.0, 4.0, 0.0) == [(0.0, 0.0, "now")]


def test_arrows(tmp_path):
    text = f"{CUE}2\n00:00:03,000 -> 00:00:04,000\n3 -> 4\n"
    told = [(1.0, 2.0, "- so --> that"), (3.0, 4.0, "3 -> 4")]
    assert read_captions(side_file(tmp_path, "a.srt", text)) == told
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\n- so --> that\n"
    assert read_captions(side_file(tmp_path, "a.vtt", vtt)) == told[:1]


@pytest.mark.parametrize(("name", "text"), [("a.srt", "never said"), ("a.vtt", "WEBVTT\n")])
def test_files_without_a_caption_are_told(tmp_path, name, text):
    notices = Notices()
    assert read_captions(side_file(tmp_path, name, text), notices) == []
    assert ("caption files without a caption", name, True) in list(notices)


def test_plain_text_is_one_caption_of_the_whole_video_and_of_every_clip(tmp_path):
    told = read_captions(side_file(tmp_path, "a.txt", " one\nsentence  \n"))
    assert told == [(0.0, math.inf, "one sentence")]
    assert overlapping(told, 100.0, 102.5, 0.0) == [(0.0, 2.5, "one sentence")]
    assert read_captions(side_file(tmp_path, "b.txt", "\n")) == []


@pytest.mark.parametrize("column", ["text", "caption"])
def test_csv(tmp_path, column):
    text = f'end,{column},start\n2,"a, b",1\n00:01.5,  spread   out ,0.5\n3,,2\n'
    assert read_captions(side_file(tmp_path, "a.csv", text)) == [
        (0.5, 1.5, "spread out"),
        (1.0, 2.0, "a, b"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "\ufeffstart;end;text\r\n0.5;1.5;first, then\r\n2;0:03;an; other\r\n"),
        ("a.csv", 'text\tstart\tend\nfirst, then\t0.5\t1.5\n"an; other"\t2\t3\n'),
        ("a.tsv", "start\tend\tcaption\n0.5\t1.5\tfirst, then\n2\t3\tan; other\n"),
        ("a.tsv", 'start,end,caption\n0.5,1.5,"first, then"\n2,3,an; other\n'),
        ("a.csv", ';start;end;text;\n0;0.5;1.5;first, then;\n1;2;3;"an; other";\n'),
        ("a.csv", 'Unnamed: 0, start , end,text\n0,0.5,1.5,"first, then"\n1,2,3,an; other\n'),
    ],
)
def test_tables_of_other_programs(tmp_path, name, text):
    assert read_captions(side_file(tmp_path, name, text)) == [
        (0.5, 1.5, "first, then"),
        (2.0, 3.0, "an; other"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.csv", "start,end,txet\n0,1,x\n", ["'text' is missing", "txet", "Did you mean"]),
        ("a.csv", "", ["'start' is missing", "found: none"]),
        ("a.csv", "start,end,text\n0,1,x\nlater,2,y\n", ["line 3", "'later'"]),
        ("a.csv", "start,end,text\n0\n", ["line 2", "must be times"]),
        ("a.csv", "start,end,text,who\n0,1,a, b,me\n", ["line 2", "5 values", "double quotes"]),
        ("a.csv", "start;end;text\n0;1,5;x\n", ["line 2", "'1,5'", "must be times"]),
        ("a.csv", "start,end,text,text\n0,1,x,y\n", ["column 'text' stands 2 times"]),
        ("a.csv", ",start,end,text\nwho,0,1,x\n", ["line 2", "'who' stands in a column without"]),
        ("a.csv", "start;end;text;who\n0;1;a; b;me\n", ["line 2", "5 values", "';' in it"]),
        ("a.csv", 'start,end,text\n0,1,"' + "x" * 200_000 + '"\n', ["not a CSV file"]),
        ("a.vtt", "WEBVTT\n\n00:01 -> x --> 00:02\nx\n", ["00:01 -> x --> 00:02"]),
        ("a.srt", "1\n00:00:01,000 -->\nx\n", ["00:00:01,000 -->"]),
        ("a.srt", f"{CUE}2\n0O:00:03,000 --> 00:00:04,000\nx\n", ["0O:00:03,000 -->"]),
        ("a.srt", f"{CUE}2\n00:00:03,000 -> later\nx\n", ["00:00:03,000 -> later"]),
        ("a.vtt", b"WEBVTT\n\n\xff\xfe\x00", ["not UTF-8"]),
        ("a.sbv", "x", ["'.sbv'", ".vtt, .srt, .csv, .tsv, .txt"]),
    ],
)
def test_files_that_cannot_be_used_are_named_with_the_reason(tmp_path, name, text, parts):
    path = side_file(tmp_path, name, text)
    with pytest.raises(DataError) as error:
        read_captions(path)
    for part in (str(path), *parts):
        assert part in str(error.value)


def test_absent_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="no such caption file"):
        read_captions(tmp_path / "absent.vtt")
    (tmp_path / "folder.vtt").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_captions(tmp_path / "folder.vtt")


def test_captions_near_a_clip_are_relative_to_its_start():
    told = [(0.0, 1.0, "before"), (1.0, 4.5, "into"), (5.5, 6.0, "in"), (7.9, 9.0, "out of")]
    told += [(9.0, 10.0, "after")]
    assert overlapping(told, 4.0, 8.0, 0.0) == [
        (-3.0, 0.5, "into"),
        (1.5, 2.0, "in"),
        (7.9 - 4.0, 5.0, "out of"),
    ]
    assert [text for *_, text in overlapping(told, 4.0, 8.0, 1.5)] == [
        "into",
        "in",
        "out of",
        "after",
    ]
    assert [text for *_, text in overlapping(told, 1.0, 2.0, 0.0)] == ["into"]
