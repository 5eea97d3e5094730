"""Report section of retrieval examples: each query with its five best results.

Videos are strips of frames, sounds waveforms, captions text, whether asked for or found; of several
modalities together, all of them.
"""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

import numpy as np

from vatt.evaluation import artefacts
from vatt.reporting import figures
from vatt.reporting.pieces import Arrays, image, of_artefact
from vatt.reporting.plots import waveform

SHOWN = 4  # queries of a kind that are not folded away
TRUE = {"audio": "sound", "text": "caption"}  # what is looked for; everything else is a clip


def section(path: Path) -> str:
    """Retrieval grids of one artefact file; a sentence if it cannot be read."""
    return of_artefact(path, "retrieval examples", _section)


def _section(arrays: Arrays) -> str:
    kinds = (n.removesuffix("/query") for n, q in arrays.items() if n.endswith("/query") and len(q))
    parts = [_kind(arrays, kind) for kind in kinds]
    step, clips, name = int(arrays["step"]), int(arrays["num_clips"]), str(arrays["dataset"])
    return (
        f'<h3>{escape(name)}<span class="note">step {step:,}, queries spread evenly over '
        f"{clips:,} clips, not picked by hand</span></h3>{''.join(parts)}"
    )


def _kind(arrays: Arrays, kind: str) -> str:
    given, wanted = _sides(kind)
    queries = [_query(arrays, kind, row) for row in range(len(arrays[f"{kind}/query"]))]
    found = int(arrays[f"{kind}/hit"].any(axis=1).sum())
    return (
        f"<h4>{escape(figures.pair_title(given, wanted))}"
        f'<span class="note">{found} of these {len(queries)} '
        f"true {_thing(wanted)}s are among the best {arrays[f'{kind}/top'].shape[1]}"
        f"{_searched(arrays, kind)}</span></h4>"
        f"{''.join(queries[:SHOWN])}{_folded(queries[SHOWN:])}"
    )


def _searched(arrays: Arrays, kind: str) -> str:
    """How many clips were asked with and how many can be found, where that is not all of them."""
    queries, gallery = (arrays.get(f"{kind}/num_{name}") for name in ("queries", "gallery"))
    if (
        queries is None
        or gallery is None
        or {int(queries), int(gallery)} == {int(arrays["num_clips"])}
    ):
        return ""
    return f"; {int(queries):,} queries in {int(gallery):,} {_thing(_sides(kind)[1])}s"


def _sides(kind: str) -> tuple[str, str]:
    """What is given and what is looked for.

    Earlier versions named searches for videos by what is given alone.
    """
    given, _, wanted = kind.partition("_")
    return given, wanted or "video"


def _thing(modality: str) -> str:
    return TRUE.get(modality, "clip")


def _folded(queries: list[str]) -> str:
    if not queries:
        return ""
    more = f"{len(queries)} more quer{'y' if len(queries) == 1 else 'ies'}"
    return f"<details><summary>{more}</summary>{''.join(queries)}</details>"


def _query(arrays: Arrays, kind: str, row: int) -> str:
    given, wanted = _sides(kind)
    clip = int(arrays[f"{kind}/query"][row])
    rank = float(arrays[f"{kind}/rank"][row])
    hits = arrays[f"{kind}/hit"][row]
    true = f"true {_thing(wanted)}"
    place = "no rank (not finite)" if math.isnan(rank) else f"{true} at rank {rank:,.0f}"
    state = "hit" if hits.any() else "miss"
    results = [
        _result(arrays, wanted, int(result), f"{place_ + 1}", "hit" if hit else "")
        for place_, (result, hit) in enumerate(zip(arrays[f"{kind}/top"][row], hits, strict=True))
    ]
    if not hits.any():
        label = true if math.isnan(rank) else f"{true}, rank {rank:,.0f}"
        results.append(_result(arrays, wanted, clip, label, "truth"))
    return (
        f'<div class="query"><div class="asked">{_asked(arrays, given, clip)}'
        f'<span class="tag {state}">{place}</span></div>'
        f'<div class="results">{"".join(results)}</div></div>'
    )


def _asked(arrays: Arrays, modality: str, clip: int) -> str:
    caption = escape(_field(arrays, "caption", clip))
    if modality == "text":
        return f"<q>{caption}</q>" if caption else f"caption of clip {clip} is empty"
    shown = _picture(arrays, modality, clip, caption) or f"{_thing(modality)} {clip}"
    if not caption:
        return shown
    given = "text" in modality.split("+")
    return shown + (f"<q>{caption}</q>" if given else f'<span class="note">{caption}</span>')


def _result(arrays: Arrays, modality: str, clip: int, label: str, state: str) -> str:
    caption = _field(arrays, "caption", clip)
    if modality != "text":
        caption = caption or _field(arrays, "label_text", clip).replace("|", ", ")
        picture = _picture(arrays, modality, clip, escape(caption or f"clip {clip}"))
        picture = picture or f'<span class="blank">clip {clip}</span>'
    else:
        caption, picture = caption or f"caption of clip {clip} is empty", ""
    mark = " ✓" if state == "hit" else ""
    source = _field(arrays, "source", clip)
    return (
        f'<figure class="result {state}" title="{escape(source)}">{picture}'
        f"<figcaption><b>{escape(label)}{mark}</b> {escape(caption)}</figcaption></figure>"
    )


def _picture(arrays: Arrays, modality: str, clip: int, alt: str) -> str:
    """Frames and waveform of a clip, as far as the modality has them and the evaluation kept them.

    Args:
      arrays: of the artefact.
      modality: "video", "text+audio", ...; of one without a picture of its own frames are shown.
      clip: number of the clip.
      alt: HTML.
    """
    row = int(np.searchsorted(arrays["clips/index"], clip))
    parts = set(modality.split("+")) - {"text"}
    shown = ""
    if parts - {"audio"} and (jpeg := artefacts.clip_jpeg(arrays, row)):
        shown += image("jpeg", jpeg, alt)
    if "audio" in parts and (outlines := arrays.get("clips/envelope")) is not None:
        shown += waveform(outlines[row])
    return shown


def _field(arrays: Arrays, name: str, clip: int) -> str:
    return str(arrays[f"clips/{name}"][int(np.searchsorted(arrays["clips/index"], clip))])
