"""Runs in object stores: worked on by a copy on this machine, which is kept in step.

    with stored_runs.opened(cfg) as stored:        # None for a run in a folder
        stored.folder                              # where the run is on this machine
        stored.send()                              # after each save; once more at the end

A training has all of the run here. A checkpoint is sent with its manifest last, and removed with
its manifest first, so that it counts in the store as it does in a folder; a note of what is being
sent or removed lets the next start remove what a kill left of it. One training at a time sends
(`stores.leases`).
An evaluation has a copy of its own, and sends its folder for figures alone.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from absl import logging

from vatt import configs, locks, stores
from vatt.errors import UserError
from vatt.files import parse_json, replace_text
from vatt.locks import HeldError
from vatt.stores import Store, StoreError
from vatt.stores.copies import Copy
from vatt.stores.leases import Lease
from vatt.training import cluster
from vatt.training.checkpoint_files import BUNDLE, MANIFEST

CONFIG, FIGURES = "config.yaml", "evaluations"
_SENDING = ".sending.json"
_LAST = ("checkpoint", "evaluated.json")  # names of what says that something else is there


class StoredRun:
    """A run in a store, as one of its processes has it.

    Attributes:
      folder: of the copy.
    """

    def __init__(self, address: str, folder: Path) -> None:
        """Opens the copy; asks nothing yet."""
        self.folder = folder
        self._copy = Copy(address, folder)
        self._lease: Lease | None = None  # by which this process may send
        self._below = ""  # what it may send

    # -- of a training ---------------------------------------------------------------------

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Keeps other trainings out, brings the run here, and what is written here to the store.

        Raises:
          HeldError: another training is at work there.
          StoreError: the store cannot be asked.
        """
        self._lease = Lease(self._copy.store, ".training.lock", "another training")
        with self._lease.held() as before:
            last = bool(self._copy.holder) and before.get("token") == self._copy.holder
            if not last:
                self._set_aside()
            self._copy.holder = self._lease.token
            self._copy.save()
            if last:  # nobody else has written since: what was not sent is
                self.send(removing=False)  # what is not here may have been cleared away
            self._clean()
            self.pull()
            with self._sent_at_the_end():
                yield

    def _set_aside(self) -> None:
        """Keeps what is here and was never sent, where another machine has gone on."""
        if not (self._copy.changed() or self._copy.gone()):
            return
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.unsent-{number}")).exists():
            number += 1
        os.rename(self.folder, aside)
        logging.warning(
            "%s: what was not sent from here does not belong to what is there now: kept in %s",
            self._copy.store.address,
            aside,
        )
        self._copy = Copy(self._copy.store.address, self.folder)

    def _clean(self) -> None:
        """Removes what a killed process has left of a checkpoint in the store."""
        store = self._copy.store
        if (note := store.read(_SENDING)) is None:
            return
        names = []
        with contextlib.suppress(ValueError):
            told = parse_json(note[0].decode())
            names = [n for n in told if isinstance(n, str)] if isinstance(told, list) else []
        there = store.listed(deep=False)
        lost = [n for n in names if BUNDLE.fullmatch(n) and _manifest_of(n) not in there]
        store.remove([*lost, _SENDING])

    @contextlib.contextmanager
    def _sent_at_the_end(self) -> Iterator[None]:
        try:
            yield
        except (StoreError, HeldError):
            raise
        except Exception:  # which is what is told
            try:
                self.send()
            except UserError as error:
                logging.warning("%s", error)
            raise
        self.send()

    # -- of an evaluation ------------------------------------------------------------------

    @contextlib.contextmanager
    def evaluating(self, place: Path) -> Iterator[None]:
        """Keeps other evaluations out of the folder for figures `place`, and sends what is in it.

        Raises:
          HeldError: another evaluation is at work there.
          StoreError: the store cannot be asked.
        """
        self._below = f"{place.relative_to(self.folder).as_posix()}/"
        name = f"{self._below}.evaluation.lock"
        self._lease = Lease(self._copy.store, name, "another evaluation")
        with self._lease.held(), self._sent_at_the_end():
            yield

    # -- in step ---------------------------------------------------------------------------

    def pull(self, without: Collection[int] | None = None) -> None:
        """Brings here what is there, manifests last; what is gone there goes here.

        Args:
          without: steps whose checkpoints an evaluation does not need, and so what else it and
            workers beside the chief do without; None for all of a run.

        Raises:
          StoreError: the store cannot be asked.
          WriteError: the disk is full, or the like.
        """
        found = {name: entry for name, entry in self._copy.store.listed().items() if _shown(name)}
        if without is not None:
            found = {name: found[name] for name in found if _is_needed(name, found, without)}
        gone = [name for name in self._copy.files() if name not in found]
        self._copy.drop(sorted(gone, key=lambda name: not MANIFEST.fullmatch(name)))
        last = [name for name in found if MANIFEST.fullmatch(name)]
        self._copy.fetch(found[name] for name in found if name not in last)
        self._copy.fetch(found[name] for name in last)

    def send(self, *, removing: bool = True) -> None:
        """Brings to the store what has changed here; with `removing` also what is gone.

        Raises:
          HeldError: another process has taken the run over.
          StoreError: the store cannot be asked; what is here is whole.
        """
        if self._lease is None:
            return
        try:
            changed = [name for name in self._copy.changed() if name.startswith(self._below)]
            gone = [name for name in self._copy.gone() if name.startswith(self._below)]
            self._lease.check()
            with self._noted([*changed, *gone] if removing else changed):
                self._send(changed, self._lease)
                if removing and gone:
                    self._lease.check()
                    self._copy.remove(sorted(gone, key=lambda name: not MANIFEST.fullmatch(name)))
        except StoreError as error:
            on_here = "on this machine sends it and goes on"
            then = "evaluates again what was not sent" if self._below else on_here
            raise StoreError(
                f"{error}. All is in {self.folder}: the same command {then}"
            ) from error

    @contextlib.contextmanager
    def _noted(self, names: Collection[str]) -> Iterator[None]:
        """Has a note of checkpoints' files in the store while they are sent or removed there."""
        bundles = [name for name in names if BUNDLE.fullmatch(name)]
        if not bundles:
            yield
            return
        note = self.folder / _SENDING
        replace_text(note, json.dumps(bundles))
        self._copy.store.send(_SENDING, note)
        note.unlink()
        yield
        self._copy.store.remove([_SENDING])

    def _send(self, changed: Collection[str], lease: Lease) -> None:
        copy = self._copy
        bundles = [name for name in changed if BUNDLE.fullmatch(name)]
        manifests = [name for name in changed if MANIFEST.fullmatch(name)]
        last = [name for name in changed if name.rpartition("/")[2] in _LAST]
        copy.send(sorted(set(changed) - {*bundles, *manifests, *last}))
        if bundles:
            lease.check()
            copy.remove([name for name in manifests if copy.has_sent(name)])  # of other weights
            copy.send(bundles)
        lease.check()
        copy.send(manifests)
        copy.send(last)


@contextlib.contextmanager
def opened(cfg: configs.ExperimentConfig) -> Iterator[StoredRun | None]:
    """Brings a run that is in a store to this machine while the block runs; else gives None.

    Of several workers, the chief alone sends; the others `pull` once more when it has begun.

    Raises:
      HeldError: another process does the same.
      StoreError: the store cannot be asked.
    """
    if not stores.is_address(cfg.model_dir):
        yield None
        return
    run = StoredRun(cfg.model_dir, folder(cfg))
    if cfg.mode == "eval":
        with locks.held(run.folder / ".copy.lock", "another evaluation"):
            run.pull(without=())
            yield run
    elif _worker(cfg):
        run.pull(without=())
        yield run
    else:
        with run.training():
            yield run


def folder(cfg: configs.ExperimentConfig) -> Path:
    """Returns the folder of a run on this machine; each worker and an evaluation has its own."""
    if not stores.is_address(cfg.model_dir):
        return Path(cfg.model_dir)
    room, worker = "evaluations" if cfg.mode == "eval" else "runs", _worker(cfg)
    return stores.local(cfg.model_dir, f"{room}-{worker}" if worker else room)


def config_file(address: str) -> Path | None:
    """Returns the configuration of a run in a store, fetched; None if it has none.

    Raises:
      StoreError: the store cannot be asked.
    """
    file = stores.local(address, "configurations") / CONFIG
    file.parent.mkdir(parents=True, exist_ok=True)
    return file if Store(address).fetch(CONFIG, file) else None


def _worker(cfg: configs.ExperimentConfig) -> int:
    """The number of this worker, 0 for the chief and for what works alone."""
    several = cfg.strategy_config.distribution_strategy == cluster.SEVERAL
    members = cluster.of_environment() if several else None
    return 0 if members is None else members.index or 0


def _shown(name: str) -> bool:
    return not any(part.startswith(".") for part in name.split("/"))


def _manifest_of(bundle: str) -> str:
    return f"ckpt-{BUNDLE.fullmatch(bundle)[1]}.json"


def _is_needed(name: str, there: Collection[str], without: Collection[int]) -> bool:
    """Whether an evaluation or a worker needs a file: of checkpoints, those that are to be read."""
    if bundle := BUNDLE.fullmatch(name):
        return _manifest_of(name) in there and int(bundle[1]) not in without
    return "/" not in name or name.startswith(f"{FIGURES}/")
