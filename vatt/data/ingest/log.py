"""What an ingest run tells while it works: `ingest.log` in the folder of the set, and the bar."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vatt.data.ingest.manifest import Row
from vatt.files import writing

if TYPE_CHECKING:
    from tqdm import tqdm

LOG_FILE = "ingest.log"
EVERY_S = 10.0


class Log:
    """A text file to which lines are added, with the time; runs of a set follow each other."""

    def __init__(self, folder: Path):
        self._path = folder / LOG_FILE

    def lines(self, lines: Sequence[str]) -> None:
        """Adds lines."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        text = "".join(f"{now}  {line}\n" for line in lines)
        with writing(self._path), self._path.open("ab") as file:
            file.write(text.encode(errors="backslashreplace"))

    def say(self, text: str) -> None:
        """Prints a line and adds it."""
        print(text)
        self.lines([text])


class Progress:
    """Moves the bar on the screen, and writes a line into the log every ten seconds."""

    def __init__(self, bar: tqdm, rows: list[Row], log: Log):
        self._bar, self._log, self._logged = bar, log, time.monotonic()
        self._files_per_clip = len({row.source for row in rows}) / max(1, len(rows))

    def update(self, clips: int) -> None:
        """Counts clips that are done."""
        bar = self._bar.format_dict
        made = bar["n"] + clips - bar["initial"]
        rate = made / max(bar["elapsed"], 1e-3)
        files = f"{rate * self._files_per_clip:.1f} files/s"
        if made:
            self._bar.set_postfix_str(files, refresh=False)
        self._bar.update(clips)
        if time.monotonic() - self._logged >= EVERY_S and made:
            self._logged = time.monotonic()
            n, total = self._bar.n, self._bar.total
            left = self._bar.format_interval((total - n) / rate)
            self._log.lines([f"{n} of {total} clips, {rate:.1f} clips/s, {files}, {left} left"])
