r"""What several processes print, as one log: each line with who said it, the same line once.

    log = Log(["0", "1"], [], print)
    log.add("1", b"step 50 ...\n", time.monotonic())
    log.flush(time.monotonic())

shows "[1] step 50 ...", or "[all] step 50 ..." where the other said it at about the same time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SAME_S = 2.0  # within which a line that all say is shown once
ERROR_S = 10.0  # within which a process ends that has said an error it ends with
_LONGEST = 1 << 16  # bytes of a line
_ERROR = re.compile(r"error: |Traceback \(most |Fatal Python error|Timeout \(\d")
_END = re.compile(rb"\r\n|[\r\n]")  # a progress bar ends its lines with the first alone


@dataclass(eq=False)
class _Line:
    """A line that waits for others to say it too, until `due`."""

    text: str
    names: set[str]
    due: float


class Log:
    """Lines of several processes, in the order of each of them.

    From where a process begins to tell of an error, its lines are held back: if it ends now, they
    are why, and `error` returns them; if it goes on, they are shown.
    """

    def __init__(
        self, names: Sequence[str], beside: Sequence[str], show: Callable[[str], object]
    ) -> None:
        """Takes the names of those whose lines may be the same, those of others, and a printer."""
        self._same = list(names)
        self._show = show
        self._waiting: list[_Line] = []
        self._rest = dict.fromkeys([*names, *beside], b"")  # of a line that has not ended
        self._errors: dict[str, tuple[float, list[str]]] = {}  # since when, and what was said since
        self._ended: set[str] = set()

    def add(self, name: str, data: bytes, now: float) -> None:
        """Takes what a process has printed since the last time."""
        *lines, rest = _END.split(self._rest[name] + data)
        if len(rest) > _LONGEST:
            lines, rest = [*lines, rest], b""
        self._rest[name] = rest
        for line in lines:
            if text := line.decode(errors="replace").rstrip():
                self._add_line(name, text, now)

    def ended(self, name: str, now: float) -> None:
        """Takes the end of a process: what it holds back is its error."""
        self.add(name, b"\n", now)
        self._ended.add(name)

    def error(self, name: str) -> list[str]:
        """Returns what an ended process said last, from where it told of an error; shows it not."""
        return self._errors.pop(name, (0.0, []))[1]

    def flush(self, now: float) -> None:
        """Shows the lines that need not wait any more."""
        for name, (since, lines) in list(self._errors.items()):
            if name not in self._ended and now >= since + ERROR_S:
                del self._errors[name]
                self._waiting += [_Line(text, {name}, now) for text in lines]
        while self._waiting:
            line = self._waiting[0]
            if now < line.due and not line.names.issuperset(self._same):
                return
            self._show(_with_names(line.text, self._of(line)))
            self._waiting.pop(0)

    def close(self, but: str | None = None) -> list[str]:
        """Shows all that is left, but the error of one process, which it returns.

        An error that several ended with is shown once, or not where that one did, too.
        """
        kept = self.error(but) if but is not None else []
        errors: dict[tuple[str, ...], list[str]] = {}
        for name, (_, lines) in self._errors.items():
            if lines != kept:
                errors.setdefault(tuple(lines), []).append(name)
        for lines, names in errors.items():
            self._waiting += [_Line(text, set(names), 0.0) for text in lines]
        self._errors.clear()
        self.flush(float("inf"))
        return kept

    def _add_line(self, name: str, text: str, now: float) -> None:
        if name in self._errors:
            self._errors[name][1].append(text)
        elif _ERROR.match(text):
            self._errors[name] = (now, [text])
        elif not self._joined(name, text):
            self._waiting.append(_Line(text, {name}, now + SAME_S))

    def _joined(self, name: str, text: str) -> bool:
        """Adds a process to a line of others that waits; False where there is none.

        What only this process has said after it then stands before it: each keeps its order.
        """
        for place, line in enumerate(self._waiting if name in self._same else ()):
            if line.text != text or name in line.names or not line.names.issubset(self._same):
                continue
            later = self._waiting[place + 1 :]
            own = [one for one in later if name in one.names]
            if all(one.names == {name} for one in own):
                line.names.add(name)
                self._waiting[place:] = [*own, line, *(one for one in later if one not in own)]
                return True
        return False

    def _of(self, line: _Line) -> str:
        if len(self._same) > 1 and line.names.issuperset(self._same):
            return "all"
        return ",".join(name for name in self._rest if name in line.names)


def _with_names(text: str, names: str) -> str:
    return f"[{names}] {text}"
