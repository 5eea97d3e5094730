"""Writes what describes an ingested data set as a whole: card, manifest and failures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vatt.files import replace_text


def write_card(
    name: str, folder: Path, facts: list[dict], *, fps: float, sample_rate: int,
    labels: Sequence[str], multi_label: bool,
) -> None:  # fmt: skip
    """Writes `card.yaml`: what was measured, with the description of the card of that name.

    A split of which no clip could be stored is left out.
    """
    import yaml

    from vatt import assets
    from vatt.data import cards

    try:
        described = yaml.safe_load(assets.find(f"data/{name}.yaml").read_text(encoding="utf-8"))
    except assets.AssetError:
        described = {}
    groups = list(dict.fromkeys(label.partition("=")[0] for label in labels if "=" in label))
    sizes = {tuple(size) for shard in facts for size in shard["sizes"]}
    height, width = sizes.pop() if len(sizes) == 1 else (None, None)

    def any_with(modality: str) -> bool:
        return any(shard[f"with_{modality}"] for shard in facts)

    card = cards.Card(
        name=name,
        description=described.get("description", ""),
        source=described.get("source", ""),
        licence=described.get("licence", ""),
        tasks=described.get("tasks") or _tasks(any_with("text"), bool(labels)),
        video=cards.VideoFacts(fps=fps, height=height, width=width) if any_with("video") else None,
        audio=cards.AudioFacts(sample_rate=sample_rate) if any_with("audio") else None,
        text=cards.TextFacts() if any_with("text") else None,
        splits=_splits(facts),
        labels=list(labels) or None,
        multi_label=described.get("multi_label", multi_label),
        attributes=described.get("attributes", groups),
    )
    cards.write(card, folder)


def _tasks(text: bool, labels: bool) -> list[str]:
    """What a set without a description of its own can be used for."""
    return ["pretrain", *(["retrieval"] if text else []), *(["classification"] if labels else [])]


def _splits(facts: list[dict]) -> dict[str, Any]:
    from vatt.data import cards

    splits = {}
    for split in dict.fromkeys(shard["split"] for shard in facts):
        part = [shard for shard in facts if shard["split"] == split]
        filled = [shard for shard in part if shard["records"]]  # the others have no file
        if filled:
            splits[split] = cards.Split(
                pattern=f"{split}-?????-of-{len(part):05d}.tfrecord",
                num_shards=len(filled),
                records=sum(shard["records"] for shard in filled),
            )
    return splits


def write_summary(folder: Path, facts: list[dict]) -> list[list]:
    """Writes `manifest.json` and `failures.csv`; returns the failures."""
    keys = ("file", "split", "records", "bytes", "sha256", "seconds")
    shards = [{key: shard[key] for key in keys} for shard in facts if shard["records"]]
    total = {
        "records": sum(shard["records"] for shard in facts),
        "seconds": round(sum(shard["seconds"] for shard in facts), 3),
        "failures": sum(len(shard["failures"]) for shard in facts),
    }
    text = json.dumps(total | {"shards": shards}, indent=1) + "\n"
    replace_text(folder / "manifest.json", text)
    failures = sorted((f for shard in facts for f in shard["failures"]), key=str)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "start", "end", "reason"])
    writer.writerows(failures)
    replace_text(folder / "failures.csv", table.getvalue())
    return failures
