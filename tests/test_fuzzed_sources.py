"""What media are listed in, changed at random: every form that `vatt.data.ingest` takes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests import fuzzing
from tests.fuzzing import FEW, MANY, Kind
from tests.test_fuzzed_arrays import OPERATIONS
from vatt.data.ingest import sources
from vatt.data.ingest.sources import Options
from vatt.data.ingest.sources.feature_files import FORMS, USUAL

TOLD = {"start": [0.5, 3, 40.0], "end": [2.0, 4.5, 41.0], "text": ["one", "two", "three"]}
VIDEOS = {"a": TOLD, "b": {key: part[:1] for key, part in TOLD.items()}}
NANS = json.dumps(VIDEOS).replace("40.0", "NaN").encode()
ONE = json.dumps({**TOLD, "lang": "en"}).encode()
LINES = b'{"start": 0.5, "end": 2, "text": "one"}\n{"start": 3.5, "end": 4.0, "text": "two"}\n'
IDS = b"video_id,title\na,first\nb, second\n"
PATHS = b'path,views\n"None/x/a",3\nx/b,4\n'
SEGMENTS = b"# made 2026\n# YTID, start_seconds, end_seconds, positive_labels\n"
SEGMENTS += b'a, 30.000, 40.000, "/m/1,/m/2"\nb, 0.000, 10.000, "/m/2"\n'
CLASSES = b'index,mid,display_name\n0,/m/1,"Dog, barking"\n1,/m/2,Cat\n'
SOUNDS = b"filename,fold,target,category,esc10\n1-a.wav,1,0,dog,True\n2-b.wav,2,1,cat,False\n"
VECTORS = np.arange(8, dtype=np.float32).reshape(2, 4)
ROWS = [
    {"id": "a", "caption": ["one"], "eval_caption": "two", "2d": VECTORS, "audio": VECTORS},
    {"id": "b", "caption": "three", "2d": VECTORS[:0]},
]
WORDS = (b'"start"', b'"text"', b"NaN", b"Infinity", b"1e400", b'"a"', b"/m/1", b"None/")


def listed(form: str, **options: object):
    """Reads a file as `--input` of a form."""
    return lambda path: sources.read([str(path)], form, Options(**options))


def folder_of(root: Path):
    """Reads the folder of a file as `--input`, in which each video has a file."""
    return lambda path: sources.read([str(path.parent)], "howto100m", Options(media_root=root))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    root, media = tmp_path_factory.mktemp("features"), tmp_path_factory.mktemp("media")
    for name in ("a.mp4", "b_0.000_10.000.wav"):
        (media / name).write_bytes(b"media")
    for folder, form in USUAL.values():
        for video in ("x/a", "x/b"):
            file = root / folder / FORMS[form][0][0].format(path=video, id=video[-1])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"features")
    told, segments, classes = root / "told.json", root / "segments.csv", root / "classes.csv"
    told.write_bytes(json.dumps(VIDEOS).encode())
    segments.write_bytes(SEGMENTS)
    classes.write_bytes(CLASSES)
    (root / "videos.csv").write_bytes(PATHS)
    captions = listed("howto100m", media_root=media)
    files = listed("feature_files", media_root=root, list=root / "videos.csv")
    pickled = [pickle.dumps(ROWS, protocol) for protocol in (2, 5)]
    arrays = {"a": {key: np.array(part) for key, part in TOLD.items() if key != "text"}}
    arrays["a"]["text"] = TOLD["text"]
    return {
        "howto": Kind("caption.json", (NANS,), captions, WORDS),
        "howto_one": Kind("a.json", (ONE,), folder_of(media), WORDS, choosy=False),
        "howto_lines": Kind("a.jsonl", (LINES, ONE), folder_of(media), WORDS, choosy=False),
        "howto_table": Kind("a.csv", (b"start,end,text\n1,2,x\n",), folder_of(media), choosy=False),
        "howto_pickle": Kind("caption.pickle", (pickle.dumps(arrays, 2),), captions, OPERATIONS),
        "ids": Kind(
            "ids.csv",
            (IDS,),
            lambda path: sources.read(
                [str(told)], "howto100m", Options(media_root=media, list=path)
            ),
        ),
        "segments": Kind(
            "s.csv", (SEGMENTS,), listed("audioset", media_root=media, labels=classes), WORDS
        ),
        "classes": Kind(
            "c.csv",
            (CLASSES,),
            lambda path: sources.read(
                [str(segments)], "audioset", Options(media_root=media, labels=path)
            ),
            WORDS,
        ),
        "esc50": Kind(
            "meta/esc50.csv",
            (SOUNDS,),
            lambda path: sources.read([str(path.parents[1])], "esc50", Options()),
        ),
        "features": Kind("caption.json", (json.dumps(VIDEOS).encode(),), files, WORDS),
        "videos": Kind(
            "videos.csv",
            (PATHS,),
            lambda path: sources.read(
                [str(told)], "feature_files", Options(media_root=root, list=path)
            ),
            WORDS,
        ),
        "clips": Kind("set/train.pkl", tuple(pickled), listed("feature_pickles"), OPERATIONS),
    }


NAMES = ("howto", "howto_one", "howto_lines", "howto_table",
         "howto_pickle", "ids", "segments", "classes", "esc50", "features", "videos",
         "clips")  # fmt: skip


@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_changed_listing_is_read_or_refused(kinds, name, cases):
    fuzzing.check(name, kinds[name], cases)
