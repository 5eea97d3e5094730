"""What lies in a folder: media files by their endings and by their names, and how long they are."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vatt.data.ingest import manifest
from vatt.errors import DataError

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


def by_stem(folder: Path) -> dict[str, str]:
    """Returns {name without ending: path} of all media files at any depth.

    Of several files of one name the first is taken: videos before sounds, then by path.
    """
    found: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    for name in walk(folder):
        file = PurePosixPath(name)
        ending = file.suffix.lower()
        if ending in VIDEO + AUDIO and not is_hidden(name) and is_utf8(name):
            found[file.stem].append((ending in AUDIO, name))
    return {stem: relative(min(names)[1]) for stem, names in found.items()}


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
