"""`dataset.html`: what an ingested data set holds, on one page for people.

    page.write(folder, card, stats, failures, settings, notices)

The page holds its pictures and styles itself and loads nothing. It depends on its arguments alone:
equal clips and settings give equal bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.data.features import splits_of
from vatt.data.ingest import levels, summary
from vatt.files import replace_text

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

CSS = """
:root{color-scheme:light dark;--paper:#fbfbf9;--ink:#1c1e21;--soft:#666b73;--line:#e2e2dc;
  --bar:#2f62c9;--bad:#a8572b;--edge:#0003}
@media(prefers-color-scheme:dark){:root{--paper:#16181b;--ink:#e7e7e3;--soft:#9aa0a8;--line:#33373d;
  --bar:#7da5f5;--bad:#e9a77c;--edge:#fff3}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;
  font-variant-numeric:tabular-nums}
main{max-width:1000px;margin:0 auto;padding:36px 22px 70px}
h1{font-size:28px;margin:0 0 4px}
h2{font-size:19px;margin:44px 0 12px;padding-top:12px;border-top:2px solid var(--ink)}
h3{font-size:15px;margin:20px 0 6px}
p{margin:6px 0;max-width:90ch}
.soft{color:var(--soft)}.bad{color:var(--bad)}
.scroll{overflow-x:auto;background:
  linear-gradient(90deg,var(--paper) 40%,transparent) left/36px 100% no-repeat local,
  linear-gradient(270deg,var(--paper) 40%,transparent) right/36px 100% no-repeat local,
  linear-gradient(90deg,var(--edge),transparent) left/14px 100% no-repeat scroll,
  linear-gradient(270deg,var(--edge),transparent) right/14px 100% no-repeat scroll}
table{border-collapse:collapse;font-size:14px}
td,th{padding:4px 20px 4px 0;text-align:right;vertical-align:top;white-space:nowrap}
th{font-weight:500;color:var(--soft)}
th:first-child,td:first-child,.left td{text-align:left}
a{color:var(--bar)}
.left td,.left th{text-align:left}
.left td{white-space:normal;overflow-wrap:anywhere}
tbody tr{border-top:1px solid var(--line)}
svg{display:block;max-width:100%;height:auto}
.bars{max-width:760px}
.bar{display:grid;grid-template-columns:minmax(80px,30%) 1fr minmax(60px,25%);gap:10px;
  align-items:center;font-size:13px;line-height:20px}
.bar span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bar span:first-child{text-align:right}
.bar b{display:block;height:14px;background:var(--bar)}
.bar i{font-style:normal;color:var(--soft)}
svg path{stroke:var(--bar);fill:none}
.clip{padding:12px 0;border-top:1px solid var(--line)}
.frames{display:flex;flex-wrap:wrap;gap:6px;margin:6px 0}
.frames img{height:96px;width:auto;border-radius:3px}
summary{cursor:pointer;color:var(--soft)}
@media(max-width:560px){td,th{padding-right:12px;font-size:13px}th{white-space:normal}}
"""


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
    # The policy makes the browser hold the promise that nothing is loaded from anywhere.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(card.name)}</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )
    replace_text(folder / FILE_NAME, page)
    return folder / FILE_NAME


def _header(card: Card, total: Mapping[str, Any]) -> str:
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
    lines = [f"<h1>{escape(card.name)}</h1>", f'<p class="soft">{" · ".join(parts)}</p>']
    if card.description:
        lines.append(f"<p>{escape(card.description)}</p>")
    for name in ("source", "licence"):
        if getattr(card, name):
            lines.append(f'<p class="soft">{name}: {escape(getattr(card, name))}</p>')
    return "\n".join(lines)


def _splits(splits: Mapping[str, dict]) -> str:
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
                name,
                f"{split['records']:,}",
                _number(split["seconds"] / 3600),
                f"{split['shortest']:.2f} s",
                f"{split['longest']:.2f} s",
                *(f"{number:,}" for number in [*missing, split["failures"]]),
            ]
        )
    return f"<h2>Splits</h2>{_table(heads, rows)}"


def _levels(splits: Mapping[str, dict]) -> str:
    counts = {name: split["levels"] for name, split in splits.items() if split.get("levels")}
    rows = [(name, levels.figures(counted)) for name, counted in counts.items()]
    if not rows:
        return ""
    heads = ["split", *rows[0][1]]
    return (
        f"<h2>Level of the sound</h2>{_table(heads, [(name, *of.values()) for name, of in rows])}"
        '<p class="soft">RMS of the clips that are not silent: half of them are below the '
        "middle. 0 dB is full scale.</p>"
    )


def _failures(failures: Sequence[Sequence]) -> str:
    if not failures:
        return ""
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for path, *_, reason in failures:
        kind = re.sub(r"\d+(\.\d+)?", "N", str(reason).replace(str(path), "FILE"))
        kinds[kind] += 1
        examples.setdefault(kind, f"{path}: {reason}")
    shown = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    rows = [(f"{count:,}", examples[kind]) for kind, count in shown[:20]]
    more = f"<p>... and {len(shown) - 20} more reasons</p>" if len(shown) > 20 else ""
    return (
        f'<h2 class="bad">{_some(len(failures), "clip", "clips")} could not be stored</h2>'
        f'<p><a href="{summary.FAILURES_FILE}">{summary.FAILURES_FILE}</a> lists all.</p>'
        f"{_table(['clips', 'for instance'], rows, 'left')}{more}"
    )


def _notices(notices: Sequence[list]) -> str:
    rows = [
        (f"{len(found):,}", kind, ": ".join(part for part in (found[0][0], found[0][4]) if part))
        for kind, found in summary.by_kind(notices)
    ]
    if not rows:
        return ""
    return (
        f'<h2>Noticed</h2><p><a href="{summary.NOTICES_FILE}">{summary.NOTICES_FILE}</a> lists '
        f"all.</p>{_table(['times', 'what', 'for instance'], rows, 'left')}"
    )


def _classes(card: Card, splits: Mapping[str, dict]) -> str:
    if not card.labels:
        return ""
    counts: Counter[str] = Counter(dict.fromkeys(card.labels, 0))
    for split in splits.values():
        counts.update(split["classes"])
    parts = ["<h2>Classes</h2>"]
    groups: dict[str, list[str]] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        group = name.partition("=")[0]
        groups.setdefault(group if group in card.attributes else "", []).append(name)
    for group, names in sorted(groups.items()):
        bars = [
            (name.removeprefix(f"{group}="), counts[name], _by_split(name, splits))
            for name in names
        ]
        heading = f"<h3>{escape(group)}</h3>" if group else ""
        parts.append(heading + _bars(bars[:_MAX_BARS]))
        if len(bars) > _MAX_BARS:
            rest = "; ".join(f"{name}: {told}" for name, _, told in bars[_MAX_BARS:])
            parts.append(
                f"<details><summary>{len(bars) - _MAX_BARS} rarer classes</summary>"
                f"<p>{escape(rest)}</p></details>"
            )
    for name, split in splits.items():
        absent = [label for label in card.labels if not split["classes"].get(label)]
        if absent and split["records"]:
            shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
            parts.append(
                f'<p class="bad">{_some(len(absent), "class", "classes")} without a clip in '
                f"{escape(name)}: {escape(shown)}</p>"
            )
    return "\n".join(parts)


def _by_split(label: str, splits: Mapping[str, dict]) -> str:
    """Clips of a class, in each split where there are several."""
    counts = {name: split["classes"].get(label, 0) for name, split in splits.items()}
    if len(counts) == 1:
        return f"{counts.popitem()[1]:,}"
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _durations(total: Mapping[str, Any]) -> str:
    found = [(name, total["durations"].get(name, 0)) for name in summary.DURATIONS]
    counts = [(name, count, f"{count:,}") for name, count in found]
    filled = [number for number, (_, count, _) in enumerate(counts) if count]
    if not filled:
        return ""
    return f"<h2>Durations</h2>{_bars(counts[filled[0] : filled[-1] + 1])}"


def _samples(stats: Sequence[dict]) -> str:
    """Some clips, in turn from every kind of shards, as many as the page may weigh."""
    by_split: dict[str, list[dict]] = {}
    for shard in stats:
        by_split.setdefault(shard["split"], []).extend(shard.get("samples", ()))
    longest = max((len(samples) for samples in by_split.values()), default=0)
    in_turn = [s[k] for k in range(longest) for s in by_split.values() if k < len(s)]
    parts: list[str] = []
    for sample in in_turn[:SAMPLES]:
        part = _sample(sample)
        if sum(map(len, parts)) + len(part) <= MAX_SAMPLE_BYTES:
            parts.append(part)
    return "\n".join(["<h2>Some clips</h2>", *parts]) if parts else ""


def _sample(sample: Mapping[str, Any]) -> str:
    end, start = sample["end"], sample["start"]
    splits = ", ".join(splits_of(sample["split"]))
    times = f"{start:.2f} - {end:.2f} s" if end > start else f"{sample['seconds']:.2f} s"
    properties = sample.get("properties") or sample.get("facts", "")  # as sets made earlier have it
    about = " · ".join(part for part in (splits, times, properties) if part)
    pictures = "".join(
        f'<img src="data:image/jpeg;base64,{encoded}" alt="at {time:.2f} s" title="{time:.2f} s">'
        for time, encoded in sample["frames"]
    )
    said = "".join(
        f'<p><span class="soft">{start:z.1f} - {end:z.1f} s</span> {escape(text)}</p>'
        for start, end, text in sample["captions"][:4]
    )
    labels = escape(", ".join(sample["labels"]))
    return (
        f'<div class="clip"><p>{escape(sample["source"])} <span class="soft">{escape(about)}</span>'
        f'</p><div class="frames">{pictures}</div>{_wave(sample["outline"])}'
        f"{f'<p>{labels}</p>' if labels else ''}{said}</div>"
    )


def _wave(outline: Sequence[Sequence[float]]) -> str:
    """The sound, scaled to its peak."""
    peak = max((max(abs(low), abs(high)) for low, high in outline), default=0.0)
    if not peak:
        return f'<p class="soft">{"silent" if outline else "no sound"}</p>'
    path = "".join(
        f"M{number * 3 + 1} {20 - 18 * high / peak:.1f}V{20.5 - 18 * low / peak:.1f}"
        for number, (low, high) in enumerate(outline)
    )
    return f'<svg viewBox="0 0 {3 * len(outline)} 40" width="600"><path d="{path}"/></svg>'


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [(name, "not set" if value is None else str(value)) for name, value in settings.items()]
    return f"<h2>Settings</h2>{_table(['', ''], rows, 'left')}" if rows else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], style: str = "") -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if any(heads) else ""
    return f'<div class="scroll"><table class="{style}">{head}<tbody>{body}</tbody></table></div>'


def _bars(rows: Sequence[tuple[str, int, str]]) -> str:
    """Horizontal bars of label, count and how it is written; the longest takes all the room."""
    most = max(count for _, count, _ in rows) or 1
    parts = [
        f'<div class="bar" title="{escape(label)}: {escape(told)}"><span>{escape(label)}</span>'
        f'<span><b style="width:{100 * count / most:.1f}%"></b></span><i>{escape(told)}</i></div>'
        for label, count, told in rows
    ]
    return f'<div class="bars">{"".join(parts)}</div>'


def _some(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
