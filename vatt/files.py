"""Files that appear whole or not at all (written under another name, then renamed); their reading.

Texts are UTF-8, whatever the locale says.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vatt.errors import UserError, WriteError

MAX_TEXT = 2**30  # bytes of a file that is read at once
_PIECE = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_STORE = re.compile(r"(?:.*=)?(?:gs|s3a?|az|abfss?|wasbs?|hdfs):/", re.IGNORECASE)
_TAKEN = re.compile(r"(gs|s3)(?:(?<=s3)a)?://([^/]+)((?:/[^/]+)*)/?")
NOT_IN_STORES = (
    "expected a folder of this machine or of a network file system. Addresses of object stores, "
    "gs://bucket/folder or s3://bucket/folder, are taken for --model_dir, --data_dir, "
    "--override_checkpoint and --model"
)
NO_FILE = (-1, -1)  # the version of a file that is not there
CACHE = "VATT_CACHE"  # the environment variable of the folder for what is fetched
OF_WRITING = (*_FULL, errno.EFBIG, errno.EROFS)  # never of reading


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a name to write to; at the end that file takes the place of `path`.

    After an error nothing is left of it, and an older `path` is untouched.

    Raises:
      WriteError: the disk is full, read-only, or the like.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path):
        try:
            yield partial
            os.replace(partial, path)
        finally:
            with suppress(OSError):  # a disk on which nothing can be made: nothing is there
                partial.unlink(missing_ok=True)


def in_a_store(text: str) -> bool:
    """Whether a path, or a flag with one, is the address of an object store ("gs://bucket/a").

    With one slash, too: as a path of this machine it would be a folder "gs:", which nobody wants.
    """
    return _STORE.match(text) is not None


def store_parts(address: str) -> tuple[str, ...] | None:
    """Returns scheme, bucket and names of an address that is taken; None for anything else.

    "gs://bucket/a/b" gives ("gs", "bucket", "a", "b").
    """
    found = _TAKEN.fullmatch(address)
    if found is None:
        return None
    parts = (found[1], found[2], *found[3].split("/")[1:])
    return None if {".", ".."} & set(parts) else parts


def cache_folder(given: str | os.PathLike | None = None) -> Path:
    """Returns the folder of what is fetched, which need not be there: $VATT_CACHE or ~/.cache/vatt.

    Args:
      given: is that folder, if given.

    Raises:
      UserError: nothing says where it is.
    """
    given = given or os.environ.get(CACHE)
    try:
        if given:
            return Path(given).expanduser().absolute()
        # A relative one does not count, as the specification of these folders says.
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (base if base.is_absolute() else Path.home() / ".cache") / "vatt"
    except RuntimeError:
        raise UserError(
            "there is no home folder to put what is fetched in; set the environment variable "
            f"{CACHE} to a folder, or give --cache_dir where there is that flag"
        ) from None


def inside(folder: str | os.PathLike, name: str, hint: str = "") -> Path:
    """Returns the file `name` under `folder`, links followed; it need not be there.

    Args:
      folder: where it must be.
      name: relative to `folder`.
      hint: what to do about a name that leads out.

    Raises:
      ValueError: it leads out of the folder (also through a link), or nowhere.
    """
    root = Path(folder).resolve()
    try:
        path = (root / name).resolve()
        path.exists()
    except (OSError, RuntimeError) as error:  # a loop of links, a name too long, no permission
        raise ValueError(f"cannot be read: {error}") from None
    if not path.is_relative_to(root):
        raise ValueError(f"leads out of {root}{hint}")
    return path


def replace_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8; names of files that are not, as Python has them, escaped."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def writing(path: str | os.PathLike, *others: type[Exception]) -> Iterator[None]:
    """Makes a `WriteError`, which names `path`, of what the system says against writing it.

    `others` are errors beside OSError, as TensorFlow has its own.
    """
    try:
        yield
    except (OSError, *others) as error:
        raise cannot_write(path, error) from error


def cannot_write(path: str | os.PathLike, error: Exception, about: str = "") -> WriteError:
    """Returns the error that names a path, the reason and the space that is free there.

    `about` is said after that.
    """
    path = Path(path).absolute()
    place = next(folder for folder in (path, *path.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free / 2**20
    code, reason = _reason(error)
    remedy = ". Make room, then start the same command again" if code in _FULL else ""
    told = f"{path}: cannot be written ({reason}); {free:.0f} MiB are free there"
    return WriteError(f"{told}{about}{remedy}")


def _reason(error: Exception) -> tuple[int | None, str]:
    """Number and words of the system's reason; TensorFlow puts the words into texts of its own."""
    if isinstance(error, OSError) and error.strerror:
        return error.errno, error.strerror
    text = str(error)
    found = ((code, os.strerror(code)) for code in errno.errorcode)
    lines = text.splitlines() or [type(error).__name__]
    return next((pair for pair in found if pair[1] in text), (None, lines[0]))


def make_folder(path: str | os.PathLike) -> None:
    """Makes a folder and those above it, where they are not there.

    Raises:
      WriteError: it cannot be made.
    """
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: str | os.PathLike, most: int = MAX_TEXT) -> str:
    """Returns a text file of at most `most` bytes.

    Raises:
      OSError: it cannot be read.
      ValueError: it is longer, or not UTF-8.
    """
    content = bytearray()
    with open(path, "rb") as file:
        # In pieces: memory for all that is asked for is taken before it is known what is there.
        while len(content) <= most and (piece := file.read(_PIECE)):
            content += piece
    if len(content) > most:
        raise ValueError(f"more than {most} bytes")
    return content.decode("utf-8-sig")


def read_json(path: str | os.PathLike) -> Any:
    """Returns what a JSON file holds; for errors see `read_text` and `parse_json`."""
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """Returns what a JSON text holds.

    Raises:
      ValueError: it is no JSON, is nested deeply or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python's limit, whose message is for programmers
        raise ValueError("a number of thousands of digits") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def version(path: Path) -> tuple[int, int]:
    """Size and time of change of a file, `NO_FILE` of none; two can well have the same size."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return NO_FILE
    return stat.st_size, stat.st_mtime_ns
