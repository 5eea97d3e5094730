"""What lies in a folder: media files by their endings and by their names, and how long they are."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vatt.data.ingest import manifest
from vatt.errors import DataError

if TYPE_CHECKING:
    from vatt.data.ingest.sources import Listing

VIDEO = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
         ".3gp", ".3g2", ".mj2", ".wmv", ".asf", ".flv", ".ogv", ".vob", ".mxf", ".dv", ".rm",
         ".nut", ".gif")  # fmt: skip
AUDIO = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".wma", ".aif", ".aiff",
         ".w64", ".mka", ".au", ".caf", ".ac3", ".eac3", ".amr", ".ape", ".tta", ".wv")  # fmt: skip
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")


def walk(folder: Path, links: list[str] | None = None) -> Iterator[str]:
    """Yields the paths of all files under a folder, relative to it, with "/", in a fixed order.

    Links to folders are not followed; their paths are added to `links`.

    Raises:
      DataError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=fail):
        here = Path(place).relative_to(folder)
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        if links is not None:
            links += [(here / name).as_posix() for name in linked]
        folders[:] = sorted(name for name in folders if name not in linked)
        yield from ((here / name).as_posix() for name in sorted(files))


def folders(folder: Path) -> Iterator[str]:
    """Yields the paths of all folders under a folder as `walk` does those of files."""
    for place, names, _ in os.walk(folder):
        here = Path(place).relative_to(folder)
        names[:] = sorted(name for name in names if not (Path(place) / name).is_symlink())
        yield from ((here / name).as_posix() for name in names)


def is_sound(name: str) -> bool:
    """Says whether a file holds sound alone, by its ending."""
    return PurePosixPath(name).suffix.lower() in AUDIO


def is_hidden(name: str) -> bool:
    """Says whether a file or a folder on the way to it begins with a dot."""
    return any(part.startswith(".") for part in name.split("/"))


def is_utf8(name: str) -> bool:
    """Says whether a name is text: a file system may hold any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def count_endings(folder: Path) -> Counter[str]:
    """How many files there are of each ending (in lower case); hidden ones do not count."""
    return Counter(
        PurePosixPath(name).suffix.lower() for name in walk(folder) if not is_hidden(name)
    )


class ByName:
    """The media files at any depth below a folder, by their names without ending.

    Of several files of one name the first is taken: videos before sounds, then by path.
    """

    def __init__(self, folder: Path) -> None:
        found: dict[str, list[tuple[bool, str]]] = defaultdict(list)
        for name in walk(folder):
            file = PurePosixPath(name)
            if file.suffix.lower() in VIDEO + AUDIO and not is_hidden(name) and is_utf8(name):
                found[file.stem].append((is_sound(name), name))
        self._files = {stem: [name for _, name in sorted(names)] for stem, names in found.items()}
        self._taken: dict[str, list[str]] = {}  # with the others that could have been taken

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def take(self, *stems: str) -> str | None:
        """Returns the file of the first of these names that there is."""
        found = [name for stem in dict.fromkeys(stems) for name in self._files.get(stem, ())]
        if not found:
            return None
        self._taken[found[0]] = found[1:]
        return relative(found[0])

    def tell(self, listing: Listing) -> None:
        """Lists the files that were taken where there are others of the same name."""
        for taken, others in sorted(self._taken.items()):
            if others:
                kind = "media files of the same name or id in several places or kinds, one taken"
                listing.notice(kind, [taken], f"not {', '.join(others)}")


def relative(name: str) -> str:
    """Returns a path that does not look like an address, as "Soup: the film.mp4" does."""
    return f"./{name}" if manifest.is_address(name) else name


def lengths(root: Path, names: list[str]) -> list[float | str]:
    """Returns how long media files are (s); for one that cannot be read, the reason."""
    from vatt.data import media

    found: list[float | str] = []
    for name in names:
        try:
            found.append(media.length(manifest.locate(root, name)))
        except (ValueError, DataError) as error:
            found.append(str(error))
    return found
