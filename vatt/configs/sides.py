"""What an embedding is of: one modality, or several of a clip.

| side | means | in names of figures |
|---|---|---|
| `text` | one modality | `txt` |
| `video&audio` | both in one pass of the model | `vidaudio` (published: `va`) |
| `video+audio` | the embeddings of each, added up | `video+audio` (published: `v+a`) |
"""

from __future__ import annotations

import re

TOGETHER, ADDED = "&", "+"
SHORT = {"text": "txt", "video": "vid"}  # in names of figures; other modalities are written out
_JOINT = re.compile(f"[{re.escape(TOGETHER + ADDED)}]")


def modalities(side: str) -> tuple[str, ...]:
    """Returns the modalities of a side, in its order."""
    return tuple(_JOINT.split(side))


def short(side: str) -> str:
    """Returns what a side is called in names of figures."""
    if ADDED in side:
        return side
    return "".join(SHORT.get(modality, modality) for modality in modalities(side))


def title(side: str) -> str:
    """Returns what a side is called in headings: "video & audio"."""
    return _JOINT.sub(r" \g<0> ", side)
