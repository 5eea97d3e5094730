"""Unpacks an archive that others wrote: files only, nothing outside the folder, sizes bounded."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tarfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import IO

from vatt.errors import DataError, short
from vatt.files import cannot_write, inside, make_folder, writing

ENDINGS = (".tar", ".tar.gz", ".tgz")
MAX_FILES = 10_000
MAX_BYTES = 2**37  # of all files together
MAX_RATIO = 100  # of that to the archive; weights have less than two
_TOO_LARGE = "it has more bytes than any checkpoint"
_TOO_DENSE = f"its files have more than {MAX_RATIO} times as many bytes as itself"
_MAX_READ = 2**24  # bytes at once: a header may ask for any number
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError)


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name. PyTorch's .pth.tar are none."""
    return name.lower().endswith(ENDINGS) and not name.lower().endswith(".pth.tar")


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Writes the files of a tar, packed by gzip or not, and returns their paths.

    Args:
      archive: the file.
      folder: where they go; nothing of it is there yet.

    Raises:
      DataError: damaged, too large, or something else in it than files inside the folder.
      WriteError: they cannot be written.
    """
    made: list[Path] = []
    left = min(MAX_BYTES, MAX_RATIO * archive.stat().st_size + _MAX_READ)
    too_large = _TOO_LARGE if left == MAX_BYTES else _TOO_DENSE
    try:
        with closing(_opened(archive)) as content, tarfile.open(fileobj=content, mode="r:") as tar:
            while member := tar.next():
                tar.members.clear()  # it would remember them all
                if member.isdir():
                    continue
                left -= member.size
                if left < 0:
                    raise ValueError(too_large)
                _check(member, len(made))
                path = inside(folder, member.name)
                _write(tar, member, path)
                made.append(path)
            while rest := content.read(_MAX_READ):  # the checksum of what is packed is at its end
                left -= len(rest)
                if left < 0:
                    raise ValueError(too_large)
    except _DAMAGED as error:
        reason = short(" ".join(str(error).split()) or type(error).__name__, 200)
        raise DataError(f"{archive}: it cannot be unpacked ({reason})") from None
    if not made:
        raise DataError(f"{archive}: it cannot be unpacked (no file in it)")
    return made


class _Bounded:
    """A file of which no more is read at once than a header or block may need."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int) -> bytes:
        """Reads `size` bytes."""
        if not 0 <= size <= _MAX_READ:
            raise ValueError(f"a header of {size} bytes")
        return self._file.read(size)


def _opened(archive: Path) -> _Bounded:
    with open(archive, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return _Bounded(gzip.open(archive) if packed else open(archive, "rb"))


def _check(member: tarfile.TarInfo, files: int) -> None:
    if not member.isreg() or member.issparse():
        raise ValueError(f"'{short(member.name)}' in it is no plain file")
    if member.size < 0:
        raise ValueError(_TOO_LARGE)
    if files >= MAX_FILES:
        raise ValueError(f"more than {MAX_FILES} files")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    make_folder(path.parent)
    if path.exists():
        raise ValueError(f"'{path.name}' is in it twice")
    if shutil.disk_usage(path.parent).free < member.size:
        raise cannot_write(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    left = member.size
    with tar.extractfile(member) as content, writing(path), open(path, "xb") as file:
        while block := _read(content, min(left, _MAX_READ)):
            left -= len(block)
            file.write(block)
    if left:
        raise EOFError(f"'{path.name}' is cut off")


def _read(content: IO[bytes], size: int) -> bytes:
    try:
        return content.read(size)
    except OSError as error:  # of the archive, not of the file that is written
        raise ValueError(str(error)) from None
