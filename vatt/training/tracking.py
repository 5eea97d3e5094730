"""Telling experiment trackers what a run logs: never in its way, never its end.

    tracking = Tracking(folder, ["mlflow"], config)        # --tracker=mlflow
    tracking.metrics("train", 100, {"loss/total_loss": 2.3})
    tracking.file(folder / "report.html")
    tracking.end(0)

Trackers (`vatt.training.trackers`) get the tags and values of TensorBoard, the configuration, the
report and the names of checkpoints. Each is served by a thread of its own, which a server that does
not answer can hold up while the training goes on; what it cannot be told is counted, and said once.
Which tracked run it is stands in `tracker-<name>.json` in the folder, so that a run that goes on
is one run there too; steps of training that have been told are not told again.
"""

from __future__ import annotations

import importlib.util
import json
import queue
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from vatt.errors import EXIT_PREEMPTED, UserError, nearest
from vatt.files import read_json, replace_text
from vatt.training import trackers
from vatt.training.trackers import About, Tracker

TRAIN = "train"
_WAITING = 1000  # messages that wait for a tracker at most
_PATIENCE_S = {trackers.DONE: 60.0}  # for what waits at the end of a run
_LITTLE_PATIENCE_S = 10.0  # of one that was stopped, whose machine may be taken away

Message = Callable[[Tracker], None]


def chosen(names: str | None) -> tuple[str, ...]:
    """Returns the trackers that `--tracker` names, joined by commas.

    Raises:
      UserError: one that is not known, or whose package is not there.
    """
    found = tuple(dict.fromkeys(name.strip() for name in (names or "").split(",") if name.strip()))
    for name in found:
        if name not in trackers.TRACKERS:
            known = ", ".join(trackers.TRACKERS)
            hint = nearest(name, trackers.TRACKERS)
            raise UserError(f"--tracker: {name!r} is not known; accepted: {known}.{hint}")
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"--tracker={name}: the package {name} is not installed: pip install 'vatt[{name}]'"
            )
    return found


class Tracking:
    """What trackers are told of one run; nothing where there are none."""

    def __init__(self, folder: Path, names: Sequence[str], config: Mapping[str, Any]) -> None:
        """Opens the tracked runs, or goes on with those that the folder knows.

        Args:
          folder: of the run.
          names: of the trackers.
          config: of the run, values by dotted path.
        """
        about = About(_name(folder.resolve()), folder, config)
        self._lines = [_Line(name, about) for name in names]
        self._prefix = ""

    def below(self, prefix: str) -> Tracking:
        """Returns what tells the same trackers figures under names of their own."""
        other = Tracking(Path(), (), {})
        other._lines, other._prefix = self._lines, f"{prefix}/"
        return other

    def metrics(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Tells the values of a step, by tag."""
        named = {f"{self._prefix}{tag}": float(value) for tag, value in values.items()}
        for line in self._lines:
            line.metrics(split, step, named)

    def note(self, name: str, text: str) -> None:
        """Tells something in words, such as the newest checkpoint; the last word counts."""
        for line in self._lines:
            line.tell(lambda tracker: tracker.note(f"{self._prefix}{name}", text))

    def file(self, path: Path) -> None:
        """Tells a file of the folder, as it is by then; the last one of a name counts."""
        for line in self._lines:
            line.tell(lambda tracker: tracker.file(path))

    def end(self, code: int | None) -> None:
        """Ends by the exit code of the run, None after an error; waits for what is not told yet."""
        for line in self._lines:
            line.end(code)


def _name(folder: Path) -> str:
    """What a run is called: its folder, of one of several seeds or folds with that of all."""
    one_of_several = re.fullmatch(r"(seed|fold_)\d+", folder.name)
    return f"{folder.parent.name}/{folder.name}" if one_of_several else folder.name


NONE = Tracking(Path(), (), {})


class _Line:
    """The line to one tracker: messages in their order, told by a thread."""

    def __init__(self, name: str, about: About) -> None:
        self._name, self._about = name, about
        self._file = about.folder / f"tracker-{name}.json"
        self._tracker, self._open = trackers.TRACKERS[name](), False
        last = self._known().get("last")
        self._last = last if isinstance(last, int) else 0  # step of training that has been told
        self._failed, self._lock = 0, threading.Lock()
        self._messages: queue.Queue[Message | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()
        self.tell(lambda tracker: None)  # so that it is opened now

    def tell(self, message: Message) -> None:
        """Has a message told; counts it where too many wait."""
        try:
            self._messages.put_nowait(message)
        except queue.Full:
            self._count("it does not keep up")

    def metrics(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Has the values of a step told, of training once."""

        def message(tracker: Tracker) -> None:
            if split == TRAIN and step <= self._last:
                return
            tracker.metrics(step, values)
            if split == TRAIN:
                self._last = step
                self._remember({**self._known(), "last": step})

        self.tell(message)

    def end(self, code: int | None) -> None:
        """Ends the tracked run."""
        status = {0: trackers.DONE, EXIT_PREEMPTED: trackers.STOPPED}.get(code, trackers.FAILED)
        self.tell(lambda tracker: tracker.end(status))
        self.tell(None)
        self._thread.join(_PATIENCE_S.get(status, _LITTLE_PATIENCE_S))
        if self._thread.is_alive():
            self._count("it did not answer until the end")
        if self._failed:
            logging.warning("tracker %s: %d messages were lost", self._name, self._failed)

    def _work(self) -> None:
        while (message := self._messages.get()) is not None:
            try:
                if not self._open:
                    self._begin()
                message(self._tracker)
            except Exception as error:
                self._count(f"{type(error).__name__}: {error}")

    def _begin(self) -> None:
        before = self._known()
        found = self._tracker.begin(self._about, before)
        if found != {key: before.get(key) for key in found}:
            self._remember(before | found)
        self._open = True
        logging.info("tracker %s: %s", self._name, self._tracker.place)
        config = self._about.folder / "config.yaml"
        if config.exists():
            self._tracker.file(config)

    def _count(self, reason: str) -> None:
        with self._lock:
            self._failed += 1
            first = self._failed == 1
        if first:
            reason = " ".join(reason.split())[:300]
            logging.warning(
                "tracker %s: %s. The run goes on without; what is lost is counted, and the run's "
                "own files have all of it. Its tracked run is that of %s",
                *(self._name, reason, self._file),
            )

    def _known(self) -> dict[str, Any]:
        """What is known of the tracked run; nothing where there has been none."""
        try:
            found = read_json(self._file)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _remember(self, known: Mapping[str, Any]) -> None:
        replace_text(self._file, json.dumps(known) + "\n")
