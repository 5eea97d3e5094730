"""What the reader makes of the published pickles of MSR-VTT and YouCook2."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from tests.golden.checks import Checks, Golden, absolute
from tests.golden.eao.tokens import Table, raw_text, same_text
from vatt.configs.tokens import STRATEGIES, Tokens
from vatt.data import cards, records
from vatt.data.ingest import build
from vatt.data.tokens import words
from vatt.data.tokens.rows import Source

VALUES = 1e-6  # absolute, of unit vectors
BOTH = {"features_2d": "resnet152", "features_3d": "resnext101"}
CLIP = {"features_2d": "clip", "features_3d": None}
S3D = {"features_2d": None, "features_3d": "s3d"}
FIELDS = ("video", "video_mask", "audio", "audio_mask", "text", "text_mask", "audio_STFT_nframes")


def _ingested(folder: Path, name: str, root: Path) -> cards.Card:
    """The set of a pickle, with those of other networks where they are published."""
    for network, end in (("resnet", ""), ("clip", "_clip"), ("s3d", "_s3d")):
        file = folder / f"tiny_{name}{end}.pkl"
        if file.is_file():
            (root / network).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / network / f"{name}.pkl")
    build.ingest([f"test={root / 'resnet' / name}.pkl"], root / "set", form="feature_pickles")
    return cards.read(root / "set" / cards.CARD_FILE)


def _tokens(content: Golden, case: str, kind: str) -> Tokens:
    named = S3D if "s3d" in kind else CLIP if "clip_features" in kind else BOTH
    strategy = next((strategy for strategy in STRATEGIES[1:] if strategy in kind), STRATEGIES[0])
    video, audio, text = (content[f"{case}/0/{name}"] for name in ("video", "audio", "text"))
    cut = kind == "clips"
    return Tokens(
        **named,
        video_embed_dim=video.shape[-1],
        n_video_tokens=video.shape[-2],
        video_sampling_strategy=strategy,
        num_audio_stft_frames=audio.shape[-1],
        max_words=text.shape[-2],
        text_embed_dim=text.shape[-1],
        cut_clips=cut,
        n_clips=len(video) if cut else 1,
    )


def _case(content: Golden, case: str, kind: str, card: cards.Card) -> Checks:
    tokens, table = _tokens(content, case, kind), Table(content["vocab"], content["vectors"])
    source = dataclasses.replace(
        Source.of(tokens, card), read=lambda said: words.embedded(said, table, tokens.max_words)
    )
    stored = [record for shard in card.shards("test") for record in records.read_shard(shard)]
    parsed = {record.source.numpy().decode(): record for record in map(source.parse, stored)}
    count = int(content[f"{case}/len"])
    yield absolute(f"{case}/len", len(parsed), content[f"{case}/len"], 0.0)
    for row in range(count):
        begin = f"{case}/{row}"
        ids, cut = content[f"{begin}/ids"], tokens.cut_clips
        record = parsed[str(ids[0]) if cut else str(ids)]
        found = source.cut(record)
        for name in FIELDS:
            value = found[name] if cut else found[name][0]
            yield absolute(f"{begin}/{name}", value, content[f"{begin}/{name}"], VALUES)
        told = content[f"{begin}/raw_text"]
        said = raw_text(words.split(tf.constant([record.captions[0].numpy()])))
        yield same_text(f"{begin}/raw_text", said, told[0] if cut else told)
        named = [name.decode() for name in found["ids"].numpy()]
        yield same_text(f"{begin}/ids", str(named), ids.tolist() if cut else [str(ids)])


def _items(content: Golden) -> Checks:
    cases = [key.removesuffix("/len") for key in content if key.endswith("/len")]
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({case.partition("_")[0] for case in cases}):
            card = _ingested(content.path.parent, name, Path(folder) / name)
            for case in (case for case in cases if case.startswith(f"{name}_")):
                yield from _case(content, case, case.partition("_")[2], card)


HANDLERS = {"dataset_items.npz": _items}
