"""Clips of narrated videos: where they are, and what the reader makes of the published files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.golden.checks import Check, Checks, Golden, absolute
from tests.golden.eao.tokens import Table, raw_text, same_text
from vatt.configs.tokens import Tokens
from vatt.data import cards, records
from vatt.data.ingest import build
from vatt.data.ingest.sources import Options
from vatt.data.parsing import Record
from vatt.data.tokens import narrated, sound, words
from vatt.data.tokens.rows import Source

VALUES = 1e-6  # absolute, of unit vectors; seconds
RATES = (1.0, 1.5)
ROWS = ("video", "video_mask", "audio", "audio_mask", "text", "text_mask")


def _wanted(content: Golden, begin: str, misaligned: bool, **others: object) -> Tokens:
    """The options that a case was made with, told by its shapes."""
    video, audio, text = (content[f"{begin}/{name}"] for name in ("video", "audio", "text"))
    return Tokens(
        video_embed_dim=video.shape[2],
        n_video_tokens=video.shape[1],
        mel_bins=audio.shape[1],
        num_audio_stft_frames=audio.shape[2],
        max_words=text.shape[1],
        text_embed_dim=text.shape[2],
        narrated=True,
        n_clips=len(video),
        flag_text_audio_misaligned=misaligned,
        **others,
    )


def _reader(table: Table, most: int) -> Callable:
    return lambda said: words.embedded(said, table, most)


def _record(content: Golden, name: str, tokens: Tokens) -> Record:
    windows = np.arange(int(content[f"{name}/n_mel_frames"]))[:, None]
    mel = windows + 10_000 * np.arange(tokens.mel_bins)
    nothing, none = tf.constant([], tf.string), tf.constant([], tf.int64)
    times = (content[f"{name}/caption_{part}"].astype(np.float32) for part in ("start", "end"))
    return Record(
        *(nothing, tf.zeros([0])),
        tf.constant(content[f"{name}/caption_text"].tolist()),
        *map(tf.constant, times),
        *(none, nothing, tf.constant(name)),
        features={
            tokens.features_2d: tf.constant(content[f"{name}/f2"]),
            tokens.features_3d: tf.constant(content[f"{name}/f3"]),
            tokens.spectrogram: tf.constant(mel, tf.float32),
        },
    )


def _places(source: Source, record: Record, shares: np.ndarray) -> Iterator[narrated.Clip]:
    """Where the clips of a record are; captions are in order."""
    seconds = sound.whole_seconds(tf.shape(record.features[source.tokens.spectrogram])[0])
    times = [narrated.exact(part) for part in (record.caption_starts, record.caption_ends)]
    for share in shares:
        yield source.place(*times, seconds, tf.constant(share))


def _said(record: Record, place: narrated.Clip) -> str:
    return raw_text(words.split(tf.gather(record.captions, place.captions)))


def _rows(content: Golden, begin: str, found: dict[str, tf.Tensor]) -> Iterator[Check]:
    for name in ROWS:
        yield absolute(f"{begin}/{name}", found[name], content[f"{begin}/{name}"], VALUES)


def _video(content: Golden, name: str, misaligned: bool) -> Checks:
    begin = f"{name}/{'misaligned' if misaligned else 'aligned'}"
    tokens, shares = _wanted(content, begin, misaligned), content[f"{name}/u"]
    record = _record(content, name, tokens)
    widths = {key: value.shape[1] for key, value in record.features.items()}
    read = _reader(Table(content["vocab"], content["vectors"]), tokens.max_words)
    source = Source(tokens, RATES, widths, read)
    for row, place in enumerate(_places(source, record, shares)):
        for part in ("start", "end"):
            reference = content[f"{begin}/{part}"][row]
            yield absolute(f"{begin}/{row}/{part}", getattr(place, part), reference, VALUES)
        told = content[f"{begin}/raw_text"][row]
        yield same_text(f"{begin}/{row}/raw_text", _said(record, place), told)
    yield from _rows(content, begin, source.narrated(record, tf.constant(shares)))


def _sampling(content: Golden) -> Checks:
    moments, windows = content["time_to_frames/t"], content["duration/n_frames"]
    reference = content["time_to_frames/frames"]
    yield absolute("time_to_frames", sound.window_at(moments), reference, 0.0)
    yield absolute("duration", sound.whole_seconds(windows), content["duration/seconds"], 0.0)
    for name in [key.removesuffix("/u") for key in content if key.endswith("/u")]:
        for misaligned in (True, False):
            yield from _video(content, name, misaligned)


# Files -------------------------------------------------------------------------------------------


def _ingested(root: Path, folder: Path) -> cards.Card:
    """The set that ingest makes of the published files."""
    kinds = {"resnet152": "features:2d", "resnext101": "features:3d", "logmel": "audio:spec"}
    options = Options(
        media_root=root,
        list=root / "videos.csv",
        feature={name: tuple(place.split(":")) for name, place in kinds.items()},
    )
    (captions,) = root.glob("caption.*")  # a pickle, or JSON
    build.ingest([str(captions)], folder, form="feature_files", options=options)
    return cards.read(folder / cards.CARD_FILE)


def _items(content: Golden) -> Checks:
    root = content.path.parent / "tiny_howto"
    vectors = str(content.path.parent / "tiny_word2vec.bin")
    with tempfile.TemporaryDirectory() as folder:
        card = _ingested(root, Path(folder) / "tiny_howto")
        stored = [record for shard in card.shards("train") for record in records.read_shard(shard)]
        tokens = _wanted(content, "0", True, word_vectors=vectors)
        source = Source.of(tokens, card)
        table = words.load(vectors, tokens.text_embed_dim)
        for word, vector in zip(content["vocab"].tolist(), content["vectors"], strict=True):
            yield absolute(f"vectors/{word}", table.find(word.encode()), vector, 0.0)
        parsed = {record.source.numpy().decode(): record for record in map(source.parse, stored)}
        for row in sorted({key.split("/")[0] for key in content if key.endswith("/ids")}):
            yield from _item(content, row, source, parsed)


def _item(content: Golden, row: str, source: Source, parsed: dict[str, Record]) -> Checks:
    path, shares = str(content[f"{row}/paths"][0]), content[f"{row}/u"]
    record = parsed[path]
    for number, place in enumerate(_places(source, record, shares)):
        name = str(content[f"{row}/ids"][number])
        yield same_text(f"{row}/{number}/path", path, name[: len(path)])
        start = np.float64(name[len(path) :])
        yield absolute(f"{row}/{number}/start", place.start, start, VALUES)
        told = content[f"{row}/raw_text"][number]
        yield same_text(f"{row}/{number}/raw_text", _said(record, place), told)
    found = source.narrated(record, tf.constant(shares))
    yield from _rows(content, row, found)
    counted = content[f"{row}/audio_STFT_nframes"]
    yield absolute(f"{row}/audio_STFT_nframes", found["audio_STFT_nframes"], counted, 0.0)


HANDLERS = {"howto_sampling.npz": _sampling, "howto_items.npz": _items}
