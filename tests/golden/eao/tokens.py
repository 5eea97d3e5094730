"""Tokens of features, sound and text, and clips of long records."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tests.golden.checks import Check, Checks, Golden, absolute
from vatt.data.tokens import cuts, seconds, sound, video, words

VALUES = 1e-6  # absolute, of unit vectors
RATES = {"f2": 1.0, "f3": 1.5}


def _cases(content: Golden, begin: str, last: str = "mask") -> list[str]:
    """Paths in the file below `begin` that have an entry `last`."""
    return sorted({k.removesuffix(f"/{last}") for k in content if k.startswith(f"{begin}/")
                   and k.endswith(f"/{last}")})  # fmt: skip


def _compared(content: Golden, path: str, streams: list[np.ndarray], strategy: str) -> Checks:
    found, mask = video.tokens(streams, len(content[f"{path}/mask"]), strategy)
    yield absolute(f"{path}/video", found, content[f"{path}/video"], VALUES)
    yield absolute(f"{path}/mask", mask, content[f"{path}/mask"], 0.0)


def _videos(content: Golden) -> Checks:
    for path in _cases(content, "video"):
        folder, _, strategy = path.rpartition("/")
        streams = [content[f"{folder}/f2"], content[f"{folder}/f3"]]
        yield from _compared(content, path, streams, strategy)
    for path in _cases(content, "video3d_only"):
        _, lengths, strategy = path.split("/")
        n3, n2 = lengths.split("_")
        yield from _compared(content, path, [content[f"video/{n2}_{n3}/f3"]], strategy)
    for path in _cases(content, "video2d_only"):
        folder, _, strategy = path.rpartition("/")
        yield from _compared(content, path, [content[f"{folder}/f2"]], strategy)


def _intervals(content: Golden) -> Checks:
    for accurate in (False, True):
        begin = f"slice/accurate{int(accurate)}"
        pairs = zip(content["slice/starts"], content["slice/ends"], strict=True)
        for row, times in enumerate(pairs):
            streams = []
            for name, rate in RATES.items():
                first, last = video.span(*times, rate, accurate)
                streams.append(tf.constant(content[f"slice/{name}"])[first:last])
            found, mask = video.tokens(streams, content[f"{begin}/mask"].shape[1], "clip")
            yield absolute(f"{begin}/{row}", found, content[f"{begin}/video"][row], VALUES)
            yield absolute(f"{begin}/{row}/mask", mask, content[f"{begin}/mask"][row], 0.0)


def _sounds(content: Golden) -> Checks:
    for path in _cases(content, "audio"):
        found = sound.fitted(content["audio/mel"].T, int(path.rpartition("/max")[2]))
        for name, value in zip(("audio", "mask", "n"), found, strict=True):
            yield absolute(f"{path}/{name}", value, content[f"{path}/{name}"], 0.0)


class Table:
    """The vectors of a golden file."""

    def __init__(self, vocabulary: np.ndarray, vectors: np.ndarray) -> None:
        self._rows = dict(zip((w.encode() for w in vocabulary.tolist()), vectors, strict=True))
        self.width = vectors.shape[1]

    def find(self, word: bytes) -> np.ndarray | None:
        return self._rows.get(word)


def raw_text(found: tf.Tensor) -> str:
    """Words with spaces between them, as `raw_text` of the files."""
    return b" ".join(found.numpy().tolist()).decode()


def same_text(name: str, ours: str, theirs: object) -> Check:
    """Compares two texts."""
    return Check(name, float(ours != str(theirs)), 0.0)


def _texts(content: Golden) -> Checks:
    table = Table(content["text/vocab"], content["text/vectors"])
    for row, sentence in enumerate(content["text/sentences"].tolist()):
        found = words.split(tf.constant([sentence]))
        most = len(content[f"text/{row}/mask"])
        values, mask = words.embedded(found, table, most)
        yield same_text(f"text/{row}/raw", raw_text(found), content[f"text/{row}/raw"])
        yield absolute(f"text/{row}/text", values, content[f"text/{row}/text"], 0.0)
        yield absolute(f"text/{row}/mask", mask, content[f"text/{row}/mask"], 0.0)


def _cuts(content: Golden) -> Checks:
    for path in _cases(content, "cut", "ids"):
        frames = int(path.rpartition("/")[2])
        row = {
            "video": tf.constant(content["cut/in_video"]),
            "video_mask": tf.constant(content["cut/in_video_mask"]),
            "audio": tf.constant(content["cut/in_audio"]),
            "audio_mask": tf.constant(content["cut/in_audio_mask"]),
            "audio_STFT_nframes": tf.constant(frames),
        }
        found = cuts.clips(row, tf.constant("id7"), len(content[f"{path}/ids"]))
        for name in ("video", "video_mask", "audio", "audio_mask"):
            yield absolute(f"{path}/{name}", found[name], content[f"{path}/{name}"], 0.0)
        yield absolute(f"{path}/stft", found["audio_STFT_nframes"], content[f"{path}/stft"], 0.0)
        ids = [name.decode() for name in found["ids"].numpy()]
        yield same_text(f"{path}/ids", str(ids), content[f"{path}/ids"].tolist())


def _data_prep(content: Golden) -> Checks:
    for part in (_videos, _intervals, _sounds, _texts, _cuts):
        yield from part(content)


# More --------------------------------------------------------------------------------------------


def _pooled(content: Golden) -> Checks:
    for path in _cases(content, "pooled"):
        streams = [content[f"{path}/f2"], content[f"{path}/f3"]]
        found, mask = video.tokens(streams, 0, "clip")
        yield absolute(f"{path}/video", found, content[f"{path}/video"], VALUES)
        yield absolute(f"{path}/mask", mask, content[f"{path}/mask"], 0.0)


def _indices(content: Golden) -> Checks:
    for path in (key for key in content if key.startswith("nearest_index/")):
        length, places = map(int, path.rpartition("/")[2].split("_"))
        yield absolute(path, video.nearest(length, places, places), content[path], 0.0)


def _every_second(content: Golden) -> Checks:
    count = int(content["crosstask/n_seconds"])
    for path in _cases(content, "crosstask", "audio"):
        radius, padding = map(int, path.rpartition("/radius")[2].split("_padding"))
        starts, ends = seconds.around(tf.constant(count), radius)
        yield absolute(f"{path}/starts", starts, content[f"{path}/starts"], 0.0)
        yield absolute(f"{path}/ends", ends, content[f"{path}/ends"], 0.0)
        mel = _numbered(100 * count + 1, content[f"{path}/audio"].shape[1])
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            places = content[f"{path}/audio_mask"].shape[1]
            found = seconds.heard(mel, start, end, count, padding, places)
            for name, value in zip(("audio", "audio_mask", "nframes"), found, strict=True):
                reference = np.asarray(content[f"{path}/{name}"][row])
                yield absolute(f"{path}/{row}/{name}", value, reference, 0.0)


def _numbered(windows: int, bands: int) -> tf.Tensor:
    """A spectrogram whose values say where they are: window + 10000 band."""
    values = np.arange(windows)[:, None] + 10_000 * np.arange(bands)
    return tf.constant(values, tf.float32)


def _data_prep_more(content: Golden) -> Iterator[Check]:
    for part in (_videos, _pooled, _indices, _every_second):
        yield from part(content)


HANDLERS = {"data_prep.npz": _data_prep, "data_prep_more.npz": _data_prep_more}
