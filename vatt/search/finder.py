"""Searches an index with a model: what is asked becomes one vector, then windows like it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vatt.api.results import Embedding
from vatt.errors import UserError
from vatt.evaluation.metrics import normalize
from vatt.search.gallery import Gallery, Hit
from vatt.search.spaces import OF, Plan, choose

if TYPE_CHECKING:
    from vatt.api.model import Model

TEXT, VIDEO, AUDIO = "text", "video", "audio"
File = str | os.PathLike


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
      asked: what was asked with: modality, and the sentence or the name of the file.
      plan: what was searched, in which space.
      hits: best first.
      notices: what is to be told: words that the model does not know, what was put right in a file.
    """

    asked: tuple[tuple[str, str], ...]
    plan: Plan
    hits: list[Hit]
    notices: tuple[str, ...]

    @property
    def title(self) -> str:
        """What was asked with, in words."""
        return " and ".join(
            f'"{name}"' if modality == TEXT else f"{OF[modality]} of {name}"
            for modality, name in self.asked
        )


class Finder:
    """Searches one index; may be used by several threads.

    Attributes:
      gallery: the index.
      model: that the index was made with.
    """

    def __init__(self, gallery: Gallery, model: Model, differing: Sequence[str] = ()) -> None:
        """Takes what `loading.load` made.

        Args:
          gallery: the index.
          model: with the weights that it was made with.
          differing: in which fields of the recipe the model reads files otherwise.
        """
        self.gallery, self.model = gallery, model
        self._differing, self._lock = list(differing), threading.Lock()

    def search(
        self,
        text: str = "",
        *,
        video: File | Sequence[File] = (),
        audio: File | Sequence[File] = (),
        modality: str | None = None,
        space: str | None = None,
        top: int = 10,
        every: bool = False,
    ) -> Found:
        """Returns the windows that are most like what is asked.

        What is given at once is added up, each at length 1, in a space that all lie in.

        Args:
          text: a sentence.
          video: files whose pictures are asked with.
          audio: files whose sound is asked with.
          modality: what of the indexed files is searched: "video" or "audio"; the first by default
            that the model compares with what is asked.
          space: name of the embeddings that are searched.
          top: how many are wanted.
          every: every window counts; else the best one of each file.

        Raises:
          UserError: nothing is asked, or the model does not compare it with what is in the index.
          DataError: a file cannot be used.
        """
        files = {VIDEO: _listed(video), AUDIO: _listed(audio)}
        asked = [name for name, given in {TEXT: text.strip(), **files}.items() if given]
        self._check(asked, modality)
        plan = choose(self.model.spaces, self.gallery.spaces, asked, modality, space)
        with self._lock:  # also for the first look at a space, which takes its memory
            given = self._embedded(text.strip(), files)
            vector = fused([one.vector(plan.asked[one.modality]) for one in given])
            self._check_width(plan, vector)
            hits = self.gallery.find(plan.target, plan.key, vector, top, every=every)
        names = tuple(
            (one.modality, one.source if one.modality == TEXT else os.path.basename(one.source))
            for one in given
        )
        return Found(names, plan, hits, _notices(given))

    def _check(self, asked: Sequence[str], modality: str | None) -> None:
        """Refuses what can be told before anything is embedded."""
        if not asked:
            raise UserError("nothing is asked: give a sentence, a video or a sound")
        self.gallery.check_modality(modality)
        for name in asked:
            if name not in self.model.modalities:
                raise UserError(
                    f"{self.model.name} takes {', '.join(self.model.modalities)}, no {name}: it "
                    f"cannot be searched by {OF[name]}"
                )
        if set(asked) - {TEXT} and self._differing:
            raise UserError(
                f"{self.gallery.path} was made otherwise than {self.model.name} reads files now: "
                f"{', '.join(self._differing)}. Give what it was made with (--data_dir, "
                "--params_override), or search by text"
            )

    def _embedded(self, text: str, files: dict[str, list[str]]) -> list[Embedding]:
        found = [self.model.embed_text(text)] if text else []
        for modality, names in files.items():
            embed = getattr(self.model, f"embed_{modality}")
            found += [embed(name) for name in names]
        return found

    def _check_width(self, plan: Plan, vector: np.ndarray) -> None:
        width = self.gallery.width(plan.target, plan.key)
        if len(vector) != width:
            raise UserError(f"{plan.key} of the index has {width} numbers, not {len(vector)}")


def fused(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the sum of vectors, each at length 1, at length 1: float32 [d]."""
    return normalize(normalize(np.stack(vectors)).sum(axis=0)).astype(np.float32)


def searched(gallery: Gallery, plan: Plan) -> str:
    """Says what a plan searches."""
    windows = gallery.windows(plan.target)
    files = f"{len(windows.first):,} files"
    if len(windows.first) < len(gallery.files):
        files = f"{len(windows.first):,} of {len(gallery.files):,} files"
    return f"{OF[plan.target]} of {files} ({len(windows.file):,} windows) in {plan.key}"


def as_json(gallery: Gallery, found: Found) -> dict[str, Any]:
    """Returns what was found as JSON can hold it."""
    windows = gallery.windows(found.plan.target)
    return {
        "asked": [{modality: name} for modality, name in found.asked],
        "index": str(gallery.path),
        "modality": found.plan.target,
        "space": found.plan.key,
        "files": len(windows.first),
        "windows": len(windows.file),
        "notices": list(found.notices),
        "results": [
            {
                "rank": rank,
                "file": hit.file,
                "start": round(hit.start, 3),
                "end": round(hit.end, 3),
                "score": round(hit.score, 6),
                "row": hit.row,
                "notice": gallery.changed(hit.number),
            }
            for rank, hit in enumerate(found.hits, start=1)
        ],
    }


def _listed(files: File | Sequence[File]) -> list[str]:
    return [os.fspath(f) for f in ([files] if isinstance(files, File) else files)]


def _notices(given: Sequence[Embedding]) -> tuple[str, ...]:
    """What is to be told of the sentence and the files that are asked with."""
    found = [
        note if one.modality == TEXT else f"{os.path.basename(one.source)}: {note}"
        for one in given
        for note in (*one.notices, *one.gaps)
    ]
    return tuple(dict.fromkeys(found))
