"""In which space a search takes place: one that has all that is asked with and what is searched.

plan = choose(model.spaces, gallery.spaces, ["text", "audio"])
plan.target, plan.key, plan.asked           # "video", "video_totxt", {"text": "text_tovid", ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vatt.errors import UserError, nearest

OF = {"video": "pictures", "audio": "sound", "text": "text"}  # what of a file it is


@dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
      target: what of the files is searched: "video" or "audio".
      key: name of its embeddings.
      asked: names of the embeddings of what is asked with, by modality.
    """

    target: str
    key: str
    asked: Mapping[str, str]


def choose(
    spaces: Sequence[Mapping[str, str]],
    there: Mapping[str, Sequence[str]],
    asked: Sequence[str],
    target: str | None = None,
    space: str | None = None,
) -> Plan:
    """Returns the first space that has all of them.

    Args:
      spaces: of the model: names of the embeddings by modality.
      there: names of the embeddings in the index, by modality.
      asked: modalities that are asked with.
      target: what is searched; by default the first modality of the index that can be.
      space: name of the embeddings that are searched; by default the first that can be.

    Raises:
      UserError: there is none, with what the model compares.
    """
    plans = []
    for modality in [target] if target else there:
        alone = set(asked) == {modality}
        own = [{modality: key} for key in there[modality]] if alone else []
        for common in (*own, *spaces):
            fits = {modality, *asked} <= common.keys() and common[modality] in there[modality]
            if fits:
                keys = {one: common[one] for one in asked}
                plans.append(Plan(modality, common[modality], keys))
    for plan in plans:
        if space in (None, plan.key):
            return plan
    raise UserError(_refusal(spaces, there, asked, [plan.key for plan in plans], target, space))


def _refusal(
    spaces: Sequence[Mapping[str, str]],
    there: Mapping[str, Sequence[str]],
    asked: Sequence[str],
    possible: Sequence[str],
    target: str | None,
    space: str | None,
) -> str:
    searched = OF[target] if target else " or ".join(OF[modality] for modality in there)
    given = " and ".join(OF[modality] for modality in asked)
    if possible:
        hint = nearest(space, possible)
        names = ", ".join(possible)
        return f"space: {space!r}; {searched} can be searched by {given} in {names}.{hint}"
    known = "; ".join(" with ".join(OF[m] for m in common if m in OF) for common in spaces)
    together = " together" if len(asked) > 1 else ""
    return (
        f"the index has {searched}, which this model does not compare with {given}{together}: no "
        f"space of it has them all. It compares {known or 'nothing across modalities'}"
    )
