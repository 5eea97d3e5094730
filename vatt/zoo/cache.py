"""The folder of fetched checkpoints: $VATT_CACHE, else vatt in the user's folder for such things.

    path = download("gdt_k400")     # fetched if it is not there yet; what our readers take

Each checkpoint has a folder of its own, with `download.json` in it once it is whole: every file
with size and SHA-256, and the address. One process fetches at a time, others wait for it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from vatt import locks, zoo
from vatt.errors import DataError, UserError, short
from vatt.files import CACHE, cache_folder, make_folder, read_json, replace_text, sha256, writing
from vatt.training import checkpoint_files
from vatt.zoo import fetching, unpacking

ENVIRONMENT_VARIABLE = CACHE
RECORD = "download.json"
_BUNDLE = (".index", ".data-00000-of-00001")  # the files of a checkpoint of TensorFlow


def folder(cache_dir: str | os.PathLike | None = None) -> Path:
    """Returns the folder of all fetched checkpoints, which need not be there.

    Args:
      cache_dir: is that folder, if given.

    Raises:
      UserError: nothing says where it is.
    """
    return cache_folder(cache_dir)


def fetched(name: str, cache_dir: str | os.PathLike | None = None) -> Path | None:
    """Returns what our readers take of a checkpoint; None if it is not here, or not whole.

    Raises:
      UserError: no checkpoint has that name.
    """
    place = folder(cache_dir) / zoo.find(name).name
    files = _recorded(place)
    return _readable(place, files) if files and _whole(place, files) else None


def origin(name: str, cache_dir: str | os.PathLike | None = None) -> str:
    """Returns where a checkpoint that is here came from, and when."""
    try:
        record = read_json(folder(cache_dir) / zoo.find(name).name / RECORD)
        return f"{record['addresses'][0]}, {record['time']}"
    except (OSError, ValueError, LookupError, TypeError):  # what the files are, it still says
        return f"an address that {RECORD} does not tell"


def download(
    name: str,
    cache_dir: str | os.PathLike | None = None,
    *,
    address: str | None = None,
    listener: fetching.Listener | None = None,
) -> Path:
    """Returns what our readers take of a checkpoint, fetched if it is not here yet.

    Args:
      name: in the zoo.
      cache_dir: the folder of all checkpoints, see `folder`.
      address: of its file, where the table has none or it lies elsewhere, too.
      listener: is told how it goes.

    Raises:
      UserError: unknown name, no address.
      FetchError: it cannot be fetched.
      WriteError: the disk is full, the folder cannot be written, or the like.
    """
    checkpoint = zoo.find(name)
    listener = listener or fetching.Listener()
    place = folder(cache_dir) / checkpoint.name
    if here := fetched(name, cache_dir):
        return here
    addresses = _addresses(checkpoint, address)
    make_folder(place)
    with locks.held(place / ".download.lock", "another download", wait=True):
        if here := fetched(name, cache_dir):
            return here
        if lost := _recorded(place):
            listener.notice(f"{place}: what was fetched is not whole any more; fetched anew")
            _remove(place, lost)
        files = _fetch(checkpoint, addresses, place, listener)
        record = {
            "name": checkpoint.name,
            "addresses": [fetching.shown(each) for each in addresses.values()],
            "time": time.strftime("%Y-%m-%d %H:%M:%S"),
            "files": files,
        }
        replace_text(place / RECORD, json.dumps(record, indent=2) + "\n")
    return _readable(place, files)


def _addresses(checkpoint: zoo.Checkpoint, address: str | None) -> dict[str, str]:
    """Returns where each file of a checkpoint is, by its name here."""
    address = address or checkpoint.address
    if not address:
        what = f" ({checkpoint.file})" if checkpoint.file else ""
        note = f" ({checkpoint.note})" if checkpoint.note else ""
        raise UserError(
            f"{checkpoint.name}: its address{what} is not known here; see {checkpoint.page}{note}. "
            "Give the address of the file with --url; a file that a browser has fetched is used "
            "like any checkpoint"
        )
    fetching.check(address)
    parts = urlsplit(address)
    ending = next((end for end in _BUNDLE if parts.path.endswith(end)), "")
    path = parts.path.removesuffix(ending)
    name = PurePosixPath(unquote(path)).name
    if checkpoint.file and checkpoint.kind != "tensorflow" and not PurePosixPath(name).suffix:
        name = checkpoint.file  # addresses of shared drives do not have it
    if not name.isprintable() or name.startswith(".") or name in ("", RECORD):
        raise UserError(f"'{short(fetching.shown(address))}': no name of a file at its end")
    if checkpoint.kind != "tensorflow" or unpacking.is_archive(name):
        return {name: address}
    return {name + end: parts._replace(path=path + end).geturl() for end in _BUNDLE}


def _fetch(
    checkpoint: zoo.Checkpoint,
    addresses: dict[str, str],
    place: Path,
    listener: fetching.Listener,
) -> dict[str, dict[str, Any]]:
    """Fetches every file, unpacks archives, and returns what is there by name."""
    files: dict[str, dict[str, Any]] = {}
    for name, address in addresses.items():
        path = place / name
        if not path.exists():  # it would be whole: unpacking it did not succeed, say
            size, digest = checkpoint.sizes.get(name), checkpoint.sha256.get(name)
            fetching.fetch(address, path, size=size, digest=digest, listener=listener)
        for each in _unpacked(path) if unpacking.is_archive(name) else [path]:
            about = {"size": each.stat().st_size, "sha256": sha256(each)}
            files[each.relative_to(place).as_posix()] = about
    return files


def _unpacked(archive: Path) -> list[Path]:
    """Puts the files of an archive in its place, into a folder, and returns their paths."""
    scratch, final = archive.with_name(".unpacking"), archive.with_name("unpacked")
    for left in (scratch, final):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        made = unpacking.unpack(archive, scratch)
        names = [path.relative_to(scratch.resolve()) for path in made]
        with writing(final):
            os.replace(scratch, final)
    except DataError:
        archive.unlink(missing_ok=True)  # the next one may be better
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    archive.unlink(missing_ok=True)
    return [final / name for name in names]


def _remove(place: Path, files: dict[str, Any]) -> None:
    with writing(place):
        for name in (RECORD, *files):
            (place / name).unlink(missing_ok=True)


def _recorded(place: Path) -> dict[str, Any]:
    """Returns what a record says of files; nothing if there is none, or it is damaged."""
    try:
        return {
            str(name): dict(about) for name, about in read_json(place / RECORD)["files"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _whole(place: Path, files: dict[str, Any]) -> bool:
    """Whether all files have the size they came with."""
    try:
        return all((place / n).stat().st_size == about["size"] for n, about in files.items())
    except (OSError, KeyError, ValueError):
        return False


def _readable(place: Path, files: dict[str, Any]) -> Path:
    """Returns what our readers take: a prefix, a file of PyTorch or Flax, else the folder."""
    prefixes = [name.removesuffix(_BUNDLE[0]) for name in files if name.endswith(_BUNDLE[0])]
    single = [name for name in files if checkpoint_files.is_single(name)]
    for names in (prefixes, single, list(files)):
        if len(names) == 1:
            return place / names[0]
    return place
