"""Report section of retrieval examples: each query with its five best clips as strips of frames."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from vatt.errors import DataError
from vatt.evaluation import artefacts
from vatt.reporting.plots import waveform

TITLES = {"text": "Text → video", "audio": "Audio → video"}


def latest_artefacts(folder: Path) -> dict[str, Path]:
    """Data set -> its newest `<data set>-<step>.npz` in `folder`."""
    newest: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.glob("*.npz")):
        name, _, step = path.stem.rpartition("-")
        if name and step.isdecimal() and int(step) >= newest.get(name, (-1, path))[0]:
            newest[name] = int(step), path
    return {name: path for name, (_, path) in newest.items()}


def section(path: Path) -> str:
    """Retrieval grids of one artefact file; a sentence if it cannot be read."""
    try:
        arrays = artefacts.load(path)
        kinds = [kind for kind in TITLES if f"{kind}/query" in arrays]
        parts = [_kind(arrays, kind) for kind in kinds]
        step, clips = int(arrays["step"]), int(arrays["num_clips"])
        name = str(arrays["dataset"])
    except (DataError, KeyError, IndexError, ValueError) as error:
        reason = escape(f"No retrieval examples from {path.name}: {error}")
        return f'<p class="missing">{reason}</p>'
    return (
        f'<h3>{escape(name)}<span class="note">step {step:,}, queries spread evenly over '
        f"{clips:,} clips, not picked by hand</span></h3>{''.join(parts)}"
    )


def _kind(arrays: Mapping[str, np.ndarray], kind: str) -> str:
    queries = [_query(arrays, kind, row) for row in range(len(arrays[f"{kind}/query"]))]
    found = int(arrays[f"{kind}/hit"].any(axis=1).sum())
    return (
        f'<h4>{TITLES[kind]}<span class="note">{found} of these {len(queries)} true clips are '
        f"among the best {arrays[f'{kind}/top'].shape[1]}</span></h4>{''.join(queries)}"
    )


def _query(arrays: Mapping[str, np.ndarray], kind: str, row: int) -> str:
    clip = int(arrays[f"{kind}/query"][row])
    rank = float(arrays[f"{kind}/rank"][row])
    hits = arrays[f"{kind}/hit"][row]
    place = "no rank (not finite)" if math.isnan(rank) else f"true clip at rank {rank:,.0f}"
    state = "hit" if hits.any() else "miss"
    caption = _field(arrays, "caption", clip)
    if kind == "audio":
        outline = arrays.get("audio/envelope")
        asked = waveform(outline[row]) if outline is not None else f"sound of clip {clip}"
        asked += f'<span class="note">{escape(caption)}</span>' if caption else ""
    else:
        asked = f"<q>{escape(caption)}</q>" if caption else f"caption of clip {clip} is empty"
    results = [
        _result(arrays, int(result), f"{place_ + 1}", "hit" if hit else "")
        for place_, (result, hit) in enumerate(zip(arrays[f"{kind}/top"][row], hits, strict=True))
    ]
    if not hits.any():
        label = "true clip" if math.isnan(rank) else f"true clip, rank {rank:,.0f}"
        results.append(_result(arrays, clip, label, "truth"))
    return (
        f'<div class="query"><div class="asked">{asked}<span class="tag {state}">{place}</span>'
        f'</div><div class="results">{"".join(results)}</div></div>'
    )


def _result(arrays: Mapping[str, np.ndarray], clip: int, label: str, state: str) -> str:
    row = int(np.searchsorted(arrays["clips/index"], clip))
    jpeg = artefacts.clip_jpeg(arrays, row)
    caption = _field(arrays, "caption", clip) or _field(arrays, "label_text", clip).replace(
        "|", ", "
    )
    if jpeg:
        data = base64.b64encode(jpeg).decode("ascii")
        alt = escape(caption or f"clip {clip}")
        picture = f'<img src="data:image/jpeg;base64,{data}" alt="{alt}">'
    else:
        picture = f'<span class="blank">clip {clip}</span>'
    mark = " ✓" if state == "hit" else ""
    source = _field(arrays, "source", clip)
    return (
        f'<figure class="result {state}" title="{escape(source)}">{picture}'
        f"<figcaption><b>{escape(label)}{mark}</b> {escape(caption)}</figcaption></figure>"
    )


def _field(arrays: Mapping[str, np.ndarray], name: str, clip: int) -> str:
    return str(arrays[f"clips/{name}"][int(np.searchsorted(arrays["clips/index"], clip))])
