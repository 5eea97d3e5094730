"""What is to be read: files, media files in folders, pieces of files that a manifest names.

    clips = named(["talks/", "clip.mp4", "scenes.csv"])
    Clip("clip.mp4", 3.0, 5.5)

No TensorFlow here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vatt.data.features import AUDIO, VIDEO
from vatt.data.ingest import manifest
from vatt.data.ingest.sources import files as media_files
from vatt.errors import UserError

MANIFESTS = (".csv", ".tsv", *manifest.JSON_LINES)


class Clip(NamedTuple):
    """A media file, or the piece of it from `start` to `end` (s; None: from or to its end)."""

    path: str
    start: float | None = None
    end: float | None = None

    def __str__(self) -> str:
        """Names it: the path, and where in the file it is unless it is all of it."""
        if self[1:] == (None, None):
            return self.path
        end = "the end" if self.end is None else f"{self.end:g} s"
        return f"{self.path} from {self.start or 0:g} s to {end}"


def named(
    given: Sequence[str],
    kinds: Sequence[str] = (VIDEO, AUDIO),
    media_root: str | os.PathLike | None = None,
) -> list[Clip]:
    """Returns what is named, with absolute paths, each once.

    Args:
      given: paths of files, which may have any ending, of folders, for the media files in them, and
        of manifests as `vatt.data.ingest` takes them.
      kinds: of what modalities files in folders count.
      media_root: folder that paths in manifests are relative to, and below; theirs by default.

    Raises:
      UserError: a folder without media files, or one that cannot be read; a manifest with lines
        that cannot be used.
    """
    found: list[Clip] = []
    for path in given:
        if os.path.isdir(path):
            found += (Clip(name) for name in _inside(path, kinds))
        elif path.lower().endswith(MANIFESTS):
            found += _listed(Path(path), media_root)
        else:
            found.append(Clip(os.path.abspath(path)))
    return list(dict.fromkeys(found))


def _inside(folder: str, kinds: Sequence[str]) -> list[str]:
    """The absolute paths of the media files in a folder, at any depth."""
    endings = media_files.VIDEO + media_files.AUDIO
    endings += media_files.IMAGES if VIDEO in kinds else ()
    names = (name for name in media_files.walk(Path(folder)) if not media_files.is_hidden(name))
    found = [os.path.abspath(os.path.join(folder, name)) for name in names
             if name.lower().endswith(endings)]  # fmt: skip
    if not found:
        raise UserError(f"{folder}: a folder without media files ({', '.join(endings[:6])}, ...)")
    return found


def _listed(path: Path, media_root: str | os.PathLike | None) -> list[Clip]:
    """The clips of a manifest."""
    root = path.parent if media_root is None else Path(media_root)
    found, problems = [], []
    for row in manifest.read_manifest(path):
        if not row.path:
            problems.append(f"line {row.line}: path is empty, there are features only")
            continue
        try:
            found.append(Clip(str(manifest.locate(root, row.path)), row.start, row.end))
        except ValueError as error:
            problems.append(f"line {row.line}: {row.path}: {error}")
    manifest.refuse_lines(path, problems)
    return found
