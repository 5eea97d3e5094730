"""Report section of retrieval examples: each query with its five best results.

Videos are strips of frames, sounds waveforms, captions text, whether asked for or found; of several
modalities together, all of them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from vatt import pages
from vatt.configs import sides
from vatt.evaluation import artefacts
from vatt.pages import Markup
from vatt.reporting import figures
from vatt.reporting.pieces import Arrays, html, image, of_artefact
from vatt.reporting.plots import waveform

clips = pages.Macros("clips.html")

SHOWN = 4  # queries of a kind that are not folded away
TRUE = {"audio": "sound", "text": "caption"}  # what is looked for; everything else is a clip


def section(path: Path) -> Markup:
    """Retrieval grids of one artefact file; a sentence if it cannot be read."""
    return of_artefact(path, "retrieval examples", _section)


def _section(arrays: Arrays) -> Markup:
    kinds = (n.removesuffix("/query") for n, q in arrays.items() if n.endswith("/query") and len(q))
    parts = [_kind(arrays, kind) for kind in kinds]
    step, count, name = int(arrays["step"]), int(arrays["num_clips"]), str(arrays["dataset"])
    about = f"step {step:,}, queries spread evenly over {count:,} clips, not picked by hand"
    return pages.join([html.heading(3, name, about), *parts])


def _kind(arrays: Arrays, kind: str) -> Markup:
    given, wanted = _sides(kind)
    queries = [_query(arrays, kind, row) for row in range(len(arrays[f"{kind}/query"]))]
    found = int(arrays[f"{kind}/hit"].any(axis=1).sum())
    about = (
        f"{found} of these {len(queries)} true {_thing(wanted)}s are among the best "
        f"{arrays[f'{kind}/top'].shape[1]}{_searched(arrays, kind)}"
    )
    heading = html.heading(4, figures.pair_title(given, wanted), about)
    return pages.join([heading, *queries[:SHOWN], _folded(queries[SHOWN:])])


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


def _folded(queries: list[Markup]) -> Markup:
    more = f"{len(queries)} more quer{'y' if len(queries) == 1 else 'ies'}"
    return html.folded(more, pages.join(queries)) if queries else Markup()


def _query(arrays: Arrays, kind: str, row: int) -> Markup:
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
    return clips.query(_asked(arrays, given, clip), state, place, results)


def _asked(arrays: Arrays, modality: str, clip: int) -> dict[str, str]:
    """What is given: a picture, a caption as a quotation, a caption that is only said."""
    caption = _field(arrays, "caption", clip)
    if modality == "text":
        shown = "" if caption else f"caption of clip {clip} is empty"
    else:
        shown = _picture(arrays, modality, clip, caption) or f"{_thing(modality)} {clip}"
    given = "text" in sides.modalities(modality)
    return {"picture": shown, "quoted": caption * given, "said": caption * (not given)}


def _result(arrays: Arrays, modality: str, clip: int, label: str, state: str) -> dict[str, str]:
    caption = _field(arrays, "caption", clip)
    if modality != "text":
        caption = caption or _field(arrays, "label_text", clip).replace("|", ", ")
        picture = _picture(arrays, modality, clip, caption or f"clip {clip}")
        picture = picture or clips.blank(f"clip {clip}")
    else:
        caption, picture = caption or f"caption of clip {clip} is empty", ""
    return {
        "style": state,
        "title": _field(arrays, "source", clip),
        "picture": picture,
        "label": label + " ✓" * (state == "hit"),
        "caption": caption,
    }


def _picture(arrays: Arrays, modality: str, clip: int, alt: str) -> Markup:
    """Frames and waveform of a clip, as far as the modality has them and the evaluation kept them.

    Args:
      arrays: of the artefact.
      modality: "video", "text&audio", ...; of one without a picture of its own frames are shown.
      clip: number of the clip.
      alt: what it shows.
    """
    row = int(np.searchsorted(arrays["clips/index"], clip))
    parts = set(sides.modalities(modality)) - {"text"}
    shown = Markup()
    if parts - {"audio"} and (jpeg := artefacts.clip_jpeg(arrays, row)):
        shown += image("jpeg", jpeg, alt)
    if "audio" in parts and (outlines := arrays.get("clips/envelope")) is not None:
        shown += waveform(outlines[row])
    return shown


def _field(arrays: Arrays, name: str, clip: int) -> str:
    return str(arrays[f"clips/{name}"][int(np.searchsorted(arrays["clips/index"], clip))])
