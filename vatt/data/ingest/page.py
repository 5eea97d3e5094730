"""`dataset.html`: what an ingested data set holds, on one page for people.

    page.write(folder, card, stats, failures, settings, notices)

The page holds its pictures and styles itself and loads nothing. It depends on its arguments alone:
equal clips and settings give equal bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt import pages
from vatt.data.features import splits_of
from vatt.data.ingest import levels, summary
from vatt.files import replace_text
from vatt.pages import Markup

if TYPE_CHECKING:
    from vatt.data.cards import Card

FILE_NAME = "dataset.html"
SAMPLES = 6
MAX_SAMPLE_BYTES = 300_000
_MAX_BARS = 40
_MISSING = {
    "video": "without pictures",
    "audio": "without sound",
    "text": "without captions",
    "labels": "without a label",
}

html = pages.Macros("pieces.html")
_set = pages.Macros("dataset.html")


def write(
    folder: Path,
    card: Card,
    stats: Sequence[dict],
    failures: Sequence[Sequence],
    settings: Mapping[str, Any],
    notices: Sequence[list] = (),
) -> Path:
    """Writes the page into the folder of the data set and returns its path.

    Args:
      folder: of the data set.
      card: as `summary.write_card` wrote it.
      stats: of all shards, in their order; see `summary.Tally`.
      failures: path, start, end and reason of every clip that could not be stored.
      settings: what was asked for, by name.
      notices: path, start, end, kind and detail of everything noticed.
    """
    splits = summary.by_split(stats)
    body = [
        _header(card, summary.totals(stats)),
        _splits(splits),
        _levels(splits),
        _failures(failures),
        _notices(notices),
        _classes(card, splits),
        _durations(summary.totals(stats)),
        _samples(stats),
        _settings(settings),
    ]
    text = pages.render(card.name, body, what="data set")
    replace_text(folder / FILE_NAME, text)
    return folder / FILE_NAME


def _header(card: Card, total: Mapping[str, Any]) -> Markup:
    parts = [f"{total['records']:,} clips", f"{_number(total['seconds'] / 3600)} hours"]
    if card.video:
        size = f", {card.video.width} x {card.video.height}" if card.video.width else ""
        parts.append(f"pictures at {card.video.fps:g} per second{size}")
    if card.audio:
        parts.append(f"sound at {card.audio.sample_rate} Hz")
    for name, about in card.features.items():
        parts.append(f"{name}: {about.rate:g} vectors per second of {about.width:,} values")
    if card.classes:
        parts.append(f"{card.classes:,} classes")
    lines = [
        f"{name}: {getattr(card, name)}" for name in ("source", "licence") if getattr(card, name)
    ]
    return _set.header(card.name, " · ".join(parts), card.description, lines)


def _splits(splits: Mapping[str, dict]) -> Markup:
    features = sorted({name for split in splits.values() for name in split.get("features", {})})
    heads = ["split", "clips", "hours", "shortest", "longest", *_MISSING.values()]
    heads += [*(f"without {name}" for name in features), "failed"]
    rows = []
    for name, split in splits.items():
        missing = [split["records"] - split[f"with_{modality}"] for modality in _MISSING]
        for feature in features:
            with_it = split.get("features", {}).get(feature, {"records": 0})["records"]
            missing.append(split["records"] - with_it)
        rows.append(
            [
                pages.head(name),
                f"{split['records']:,}",
                _number(split["seconds"] / 3600),
                f"{split['shortest']:.2f} s",
                f"{split['longest']:.2f} s",
                *(f"{number:,}" for number in [*missing, split["failures"]]),
            ]
        )
    return html.heading(2, "Splits") + html.table(heads, rows, "data", left=("split",))


def _levels(splits: Mapping[str, dict]) -> Markup:
    counts = {name: split["levels"] for name, split in splits.items() if split.get("levels")}
    rows = [(name, levels.figures(counted)) for name, counted in counts.items()]
    if not rows:
        return Markup()
    heads = ["split", *rows[0][1]]
    about = (
        "RMS of the clips that are not silent: half of them are below the middle. 0 dB is full "
        "scale."
    )
    table = html.table(
        heads, [(pages.head(name), *of.values()) for name, of in rows], "data", left=("split",)
    )
    return html.heading(2, "Level of the sound") + table + html.paragraph(about, "note")


def _failures(failures: Sequence[Sequence]) -> Markup:
    if not failures:
        return Markup()
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for path, *_, reason in failures:
        kind = re.sub(r"\d+(\.\d+)?", "N", str(reason).replace(str(path), "FILE"))
        kinds[kind] += 1
        examples.setdefault(kind, f"{path}: {reason}")
    shown = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    rows = [(f"{count:,}", examples[kind]) for kind, count in shown[:20]]
    title = f"{_some(len(failures), 'clip', 'clips')} could not be stored"
    heads = ["clips", "for instance"]
    return _set.listed(title, summary.FAILURES_FILE, heads, rows, max(0, len(shown) - 20))


def _notices(notices: Sequence[list]) -> Markup:
    rows = [
        (f"{len(found):,}", kind, ": ".join(part for part in (found[0][0], found[0][4]) if part))
        for kind, found in summary.by_kind(notices)
    ]
    heads = ["times", "what", "for instance"]
    return _set.listed("Noticed", summary.NOTICES_FILE, heads, rows, 0) if rows else Markup()


def _classes(card: Card, splits: Mapping[str, dict]) -> Markup:
    if not card.labels:
        return Markup()
    counts: Counter[str] = Counter(dict.fromkeys(card.labels, 0))
    for split in splits.values():
        counts.update(split["classes"])
    parts = [html.heading(2, "Classes")]
    groups: dict[str, list[str]] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        group = name.partition("=")[0]
        groups.setdefault(group if group in card.attributes else "", []).append(name)
    for group, names in sorted(groups.items()):
        shown = {name.removeprefix(f"{group}="): name for name in names}
        parts += [html.heading(3, group)] if group else []
        parts.append(_counted(dict(list(shown.items())[:_MAX_BARS]), counts, splits))
        if len(names) > _MAX_BARS:
            rest = list(shown.items())[_MAX_BARS:]
            told = "; ".join(f"{called}: {_by_split(name, splits)}" for called, name in rest)
            parts.append(html.folded(f"{len(rest)} rarer classes", html.paragraph(told)))
    for name, split in splits.items():
        absent = [label for label in card.labels if not split["classes"].get(label)]
        if absent and split["records"]:
            shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
            some = _some(len(absent), "class", "classes")
            parts.append(html.paragraph(f"{some} without a clip in {name}: {shown}", "warning"))
    return pages.join(parts)


def _counted(
    names: Mapping[str, str], counts: Mapping[str, int], splits: Mapping[str, dict]
) -> Markup:
    """Classes, as they are called here, with their clips: bars; a table of more than two splits."""
    if len(splits) <= 2:
        return _bars([(called, counts[n], _by_split(n, splits)) for called, n in names.items()])
    rows = [
        (pages.head(called), *(f"{split['classes'].get(name, 0):,}" for split in splits.values()))
        for called, name in names.items()
    ]
    return html.table(["class", *splits], rows, "data", left=("class",))


def _by_split(label: str, splits: Mapping[str, dict]) -> str:
    """Clips of a class, in each split where there are several."""
    counts = {name: split["classes"].get(label, 0) for name, split in splits.items()}
    if len(counts) == 1:
        return f"{counts.popitem()[1]:,}"
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _durations(total: Mapping[str, Any]) -> Markup:
    found = [(name, total["durations"].get(name, 0)) for name in summary.DURATIONS]
    counts = [(name, count, f"{count:,}") for name, count in found]
    filled = [number for number, (_, count, _) in enumerate(counts) if count]
    if not filled:
        return Markup()
    return html.heading(2, "Durations") + _bars(counts[filled[0] : filled[-1] + 1])


def _samples(stats: Sequence[dict]) -> Markup:
    """Some clips, in turn from every kind of shards, as many as the page may weigh."""
    by_split: dict[str, list[dict]] = {}
    for shard in stats:
        by_split.setdefault(shard["split"], []).extend(shard.get("samples", ()))
    longest = max((len(samples) for samples in by_split.values()), default=0)
    in_turn = [s[k] for k in range(longest) for s in by_split.values() if k < len(s)]
    parts: list[Markup] = []
    for sample in in_turn[:SAMPLES]:
        part = _sample(sample)
        if sum(map(len, parts)) + len(part) <= MAX_SAMPLE_BYTES:
            parts.append(part)
    return pages.join([html.heading(2, "Some clips"), *parts]) if parts else Markup()


def _sample(sample: Mapping[str, Any]) -> Markup:
    end, start = sample["end"], sample["start"]
    splits = ", ".join(splits_of(sample["split"]))
    times = f"{start:.2f} to {end:.2f} s" if end > start else f"{sample['seconds']:.2f} s"
    properties = sample.get("properties") or sample.get("facts", "")  # as sets made earlier have it
    about = " · ".join(part for part in (splits, times, properties) if part)
    frames = [(encoded, f"{time:.2f} s") for time, encoded in sample["frames"]]
    said = [(f"{a:z.1f} to {b:z.1f} s", text) for a, b, text in sample["captions"][:4]]
    labels, sound = ", ".join(sample["labels"]), _sound(sample["outline"])
    return _set.clip(sample["source"], about, frames, sound, labels, said)


def _sound(outline: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The sound, scaled to its peak, or why there is none."""
    peak = max((max(abs(low), abs(high)) for low, high in outline), default=0.0)
    if not peak:
        return {"path": "", "none": "silent" if outline else "no sound"}
    path = "".join(
        f"M{number * 3 + 1} {20 - 18 * high / peak:.1f}V{20.5 - 18 * low / peak:.1f}"
        for number, (low, high) in enumerate(outline)
    )
    return {"path": path, "width": 3 * len(outline)}


def _settings(settings: Mapping[str, Any]) -> Markup:
    rows = [
        (pages.head(name), "not set" if value is None else str(value))
        for name, value in settings.items()
    ]
    if not rows:
        return Markup()
    return html.heading(2, "Settings") + html.table([], rows, "data left prov")


def _bars(rows: Sequence[tuple[str, int, str]]) -> Markup:
    """Horizontal bars of label, count and how it is written; the longest takes all the room."""
    most = max(count for _, count, _ in rows) or 1
    return _set.counts([(label, 100 * count / most, told) for label, count, told in rows])


def _some(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
