"""Finds the files that belong to the project: experiment files, dataset cards, vocabularies.

    find("configs/pretrain/toy.yaml")   # as given, else in the checkout, else in the wheel
    find_misc("toy_en", ".txt")         # as given, else in $VATT_MISC_DIR, else in misc_data/
    trained("toy")                      # the folder of weights that come with the package

A checkout holds them in `configs/`, `data/` and `misc_data/` at its top; a wheel carries the same
folders inside the package. Vocabularies and word vectors that are not part of the project may lie
anywhere else: the environment variable VATT_MISC_DIR names that folder.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from vatt.errors import DataError, nearest, short

_PACKAGE = Path(__file__).resolve().parent
FOLDERS = ("configs", "data", "misc_data")
TRAINED = _PACKAGE / "trained"  # runs whose weights come with the package
MISC_DIR = "VATT_MISC_DIR"


class AssetError(DataError):
    """A file that is nowhere: `accepted` says where it was sought, `hint` names a similar one."""

    def __init__(self, name: str, accepted: str, hint: str):
        self.accepted, self.hint = accepted, hint
        super().__init__(f"{name}: {accepted}.{hint}")


def roots() -> list[Path]:
    """Returns the folders that may hold `FOLDERS`: the checkout, the copy in an installed wheel."""
    checkout, installed = _PACKAGE.parent, _PACKAGE / "asset_files"
    # Beside an installed package, a folder called `data` would be someone else's.
    is_checkout = (checkout / "setup.cfg").is_file()
    return [
        root for root in (checkout if is_checkout else None, installed) if root and root.is_dir()
    ]


def find(name: str | Path) -> Path:
    """Returns the file `name`: as given (absolute or from the working directory), else ours.

    Raises:
      AssetError: nowhere; the message lists the places and the nearest name.
    """
    given = Path(os.path.expanduser(name))
    if os.path.isfile(given):  # False for what cannot be a name at all
        return given
    places = [] if given.is_absolute() else [root / given for root in roots()]
    for place in places:
        if os.path.isfile(place):
            return place
    looked = ", ".join(str(place) for place in [given.absolute(), *places])
    what = (
        "is a folder, expected a file"
        if os.path.isdir(given)
        else f"no such file; looked for {looked}"
    )
    raise AssetError(short(name), short(what, 2000), _similar(given))


def find_misc(name: str | Path, suffix: str) -> Path:
    """Returns a vocabulary or table of word vectors, given as a file or by its name.

    A name, with or without `suffix`, is sought in the folder $VATT_MISC_DIR and in `misc_data/`.

    Raises:
      AssetError: nowhere; the message lists the places and the nearest name.
    """
    folders = [Path("misc_data")]
    if os.environ.get(MISC_DIR):
        folders.insert(0, Path(os.path.expanduser(os.environ[MISC_DIR])))
    tried = [Path(name), *(folder / f"{name}{end}" for folder in folders for end in ("", suffix))]
    for candidate in tried:
        try:
            return find(candidate)
        except AssetError:
            continue
    known = [Path(file).stem for file in available("misc_data", suffix)]
    known += [file.stem for file in folders[0].glob(f"*{suffix}")]
    looked = ", ".join(str(candidate) for candidate in dict.fromkeys(tried))
    raise AssetError(
        short(name),
        short(f"no such file; looked for {looked}", 2000),
        nearest(Path(name).stem, known),
    )


def trained(name: str) -> Path | None:
    """Returns the folder of a run whose weights come with the package; None: there is none."""
    folders = {path.name: path for path in TRAINED.iterdir() if path.is_dir()}
    return folders.get(name.strip().lower())


def available(folder: str, suffix: str = "") -> list[str]:
    """Returns the project's files under one of `FOLDERS`, such as "configs/pretrain/toy.yaml"."""
    names = {
        path.relative_to(root).as_posix()
        for root in roots()
        for path in (root / folder).rglob(f"*{suffix}")
        if path.is_file()
    }
    return sorted(names)


def _similar(given: Path) -> str:
    known = [name for folder in FOLDERS for name in available(folder)]
    if os.path.isdir(given.parent):
        known += [
            str(given.parent / path.name) for path in given.parent.iterdir() if path.is_file()
        ]
    match = difflib.get_close_matches(str(given), known, n=1, cutoff=0.6)
    return f" Did you mean '{match[0]}'?" if match else ""
