"""Files changed at random, those first whose reading reaches code that no other one did.

    outcome = explore("card", Kind("card.yaml", (content,), cards.read), path, cases=20_000)
    again("card", kind, "0.57.312")      # seed 0, changed by number 57, then by number 312

A file that makes the package take a step from one line to another for the first time joins those
that are changed further. Its name is the way to it, `KIND:0.57.312`, from which it is made again,
whatever was reached meanwhile; `VATT_CASE=NAME ./test.sh tests -k fuzzed` reads it alone.

Of a loop of our own and `atheris`: no one version of that has wheels for Python 3.11 to 3.13, its
engine ends the process that it finds a fault in, and libFuzzer's corpus says not how it was made.
"""

from __future__ import annotations

import copy
import gc
import json
import logging
import os
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import vatt
from vatt.errors import UserError

FEW, MANY = 60, 20_000
OFTEN = 30  # calls of a function, of a case, that are followed: what is found later is little
LONGEST_S, MOST_BYTES, LONGEST_MESSAGE = 5.0, 2**28, 20_000
TOKENS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"-1", b"1e999", b"nan", b"9" * 5000, b"[" * 1200, b"{",
    b"}", b'"', b"'", b"\n", b"\r", b"\n\n", b";", b",", b"\t", b": ", b"-->", b"<b", b"&lt;",
    b"!!python/object/apply:os.system ['true']", b"&a [*a]", b"../", b"/etc/passwd", b"null",
    b"true", "\u202e\u0130".encode(), b"%s", b"0x10", b"1_000", b"99999999999999999999", b"#",
)  # fmt: skip
NUMBERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**64 - 1)
VALUES = (None, True, -1, 0, 1, 0.5, 1e308, 10**30, float("nan"), float("inf"), "", "a", "a\0b",
          "../a", "x" * 300, "\ud800", [], [[]], ["a"], {}, {"a": None})  # fmt: skip
_SHOWN = 30  # cases that are wrong
_LONGER = 1_000  # bytes by which a file that is changed further may exceed the seeds
# Some systems send a file that is written anew to the disk at once, which takes 8 ms.
_IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_PACKAGE = str(Path(vatt.__file__).parent)


@dataclass(frozen=True)
class Kind:
    """What is changed, and what reads it.

    Attributes:
      file: name of the file, also with folders.
      seeds: what it holds.
      read: reads the file at a path.
      tokens: pieces of this format, put in beside `TOKENS`.
      packed: makes a file of what was changed, as an archive with a right checksum.
      choosy: something is refused.
      theirs: memory may be asked for in vain by a library, as Pillow does by the length of a chunk.
    """

    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Any]
    tokens: tuple[bytes, ...] = ()
    packed: Callable[[bytes], bytes] = bytes
    choosy: bool = True
    theirs: bool = False


@dataclass
class Outcome:
    """What came of the cases of a kind."""

    wrong: list[str] = field(default_factory=list)
    refused: int = 0
    longest_s: float = 0.0  # of the processor
    taken_s: float = 0.0  # of the processor, with all that belongs to it
    steps: tuple[int, int] = (0, 0)  # from line to line, of the seeds and of all
    files: int = 0  # that reached something new
    grown: int = 0  # bytes of memory that are kept


# Changes ------------------------------------------------------------------------------------------


def mutated(content: bytes, rng: random.Random, tokens: tuple[bytes, ...] = TOKENS) -> bytes:
    """Changes one to four places: bits, numbers, pieces cut, doubled or moved, tokens, an end.

    Half of the time a value of JSON becomes another one, where the content is such.
    """
    of_json = content[:1] in (b"{", b"[") and rng.random() < 0.5
    if of_json and (changed := _with_other_values(content, rng)):
        return changed
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        piece = bytes(data[place : place + rng.choice((1, 4, 30, 200))])
        match rng.randrange(8):
            case 0 if piece:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place : place + len(piece)]
            case 2:
                data[place:place] = piece * rng.choice((1, 2, 50))
            case 3:
                data[place:place] = rng.choice(tokens)
            case 4:
                data[place : place + len(piece)] = rng.choice(tokens)
            case 5 if rng.random() < 0.2:
                del data[place:]
            case 6:
                form = rng.choice(("<B", "<H", "<I", "<Q", ">H", ">I", ">Q"))
                size = struct.calcsize(form)
                number = rng.choice(NUMBERS) % 2 ** (8 * size)
                data[place : place + size] = struct.pack(form, number)
            case 7:
                other = rng.randrange(len(data) + 1)
                data[other:other] = piece
    return bytes(data)


def _with_other_values(content: bytes, rng: random.Random) -> bytes:
    """Changes one or two values of a JSON text, or of one in a line; b"" where there is none."""
    for parts in ([content], content.split(b"\n")):
        number = rng.randrange(len(parts))
        with suppress(ValueError, RecursionError):
            whole = [json.loads(parts[number])]
            for _ in range(rng.randint(1, 2)):
                _change_value(whole, rng)
            parts[number] = json.dumps(whole[0]).encode()
            return b"\n".join(parts)
    return b""


def _change_value(whole: list, rng: random.Random) -> None:
    """Replaces a value by another one or one of the same text, drops it or calls it otherwise."""
    places = list(_places(whole))
    holder, key = rng.choice(places)
    match rng.randrange(5):
        case 0 if holder is not whole:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("", "a", "x" * 300, "../a", "\ud800"))] = holder.pop(key)
        case 2:
            other, place = rng.choice(places)
            holder[key] = copy.deepcopy(other[place])
        case _:
            holder[key] = copy.deepcopy(rng.choice(VALUES))


def _places(values: list | dict) -> Iterator[tuple[list | dict, Any]]:
    """Yields where each value stands, at any depth."""
    for key in values if isinstance(values, dict) else range(len(values)):
        yield values, key
        if isinstance(values[key], list | dict):
            yield from _places(values[key])


def _changed(name: str, number: int, kind: Kind, content: bytes) -> bytes:
    return mutated(content, random.Random(f"{name}-{number}"), TOKENS + kind.tokens)


def again(name: str, kind: Kind, way: str) -> bytes:
    """Returns what the file of a case holds, by the way to it, such as "0.57.312"."""
    seed, *numbers = map(int, way.split("."))
    content = kind.seeds[seed]
    for number in numbers:
        content = _changed(name, number, kind, content)
    return kind.packed(content)


# What is reached ----------------------------------------------------------------------------------


class Steps:
    """Counts the steps from line to line that the package takes, each once.

    In each function, of as many calls as `OFTEN` says for each time that is `counted`.
    """

    def __init__(self) -> None:
        self.count = 0
        self._left: dict[int, int] = {}  # calls of a function that are still followed
        self._codes: dict[int, tuple[CodeType, set[int] | None]] = {}  # kept, so that ids stay
        self._tracer = self._made()

    def _made(self) -> Callable:
        """What `sys.settrace` calls for every function: bound to nothing, since that is slow."""
        codes, left = self._codes, self._left

        def called(frame: FrameType, event: str, argument: Any) -> Callable | None:
            code = frame.f_code
            key = id(code)
            try:
                taken = codes[key][1]
            except KeyError:
                taken = set() if code.co_filename.startswith(_PACKAGE) else None
                codes[key] = code, taken
            if taken is None or not (times := left.get(key, OFTEN)):
                return None
            left[key] = times - 1
            return self._line_by_line(taken)

        return called

    def _line_by_line(self, taken: set[int]) -> Callable:
        before = 0

        def local(frame: FrameType, event: str, argument: Any) -> Callable:
            nonlocal before
            if event == "line":
                line = frame.f_lineno
                step, before = before << 16 | line, line
                if step not in taken:
                    taken.add(step)
                    self.count += 1
            return local

        return local

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts what is done meanwhile."""
        before = sys.gettrace()
        self._left.clear()
        sys.settrace(self._tracer)
        try:
            yield
        finally:
            sys.settrace(before)


def untraced(function: Callable) -> Callable:
    """A function that takes no step of the package: every instruction is slower while one traces.

    Not for what calls the package back.
    """

    def quiet(*arguments: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*arguments)
        finally:
            sys.settrace(tracer)

    return quiet


def _memory() -> tuple[int, int]:
    """Bytes of this process: of addresses, and those that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        addresses, resident = map(int, file.read().split()[:2])
    return addresses * resource.getpagesize(), resident * resource.getpagesize()


@contextmanager
def bounded_memory(most: int = MOST_BYTES) -> Iterator[None]:
    """Whoever asks for more than `most` bytes beyond what there is gets a MemoryError."""
    there, _ = _memory()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = there + most if hard == resource.RLIM_INFINITY else min(there + most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# Reading ------------------------------------------------------------------------------------------


def explore(name: str, kind: Kind, path: Path, cases: int) -> Outcome:
    """Reads the seeds of a kind and that many changed files, one after another at a path."""
    outcome, steps, choice = Outcome(), Steps(), random.Random(name)
    most = max(map(len, kind.seeds)) + _LONGER
    corpus = [(str(number), content) for number, content in enumerate(kind.seeds)]
    logging.disable(logging.CRITICAL)
    path.write_bytes(kind.packed(kind.seeds[0]))
    with suppress(UserError):
        kind.read(path)  # what is imported for it has no part in what follows
    (_, before), began = _memory(), time.process_time()
    try:
        with bounded_memory():
            for way, content in tuple(corpus):
                _read(f"{name}:{way}", kind, path, content, steps, outcome)
            of_seeds = steps.count
            if outcome.refused:
                outcome.wrong.append(f"{name}: {outcome.refused} of what it begins with is refused")
            for number in range(cases):
                above, content = choice.choice(corpus)
                content, way = _changed(name, number, kind, content), f"{above}.{number}"
                reached = steps.count
                _read(f"{name}:{way}", kind, path, content, steps, outcome)
                if steps.count > reached and len(content) <= most:
                    corpus.append((way, content))
    finally:
        logging.disable(logging.NOTSET)
    outcome.steps, outcome.files = (of_seeds, steps.count), len(corpus) - len(kind.seeds)
    outcome.taken_s = time.process_time() - began
    gc.collect()
    outcome.grown = _memory()[1] - before  # what a case takes meanwhile is bounded
    return outcome


def _read(
    case: str, kind: Kind, path: Path, content: bytes, steps: Steps, outcome: Outcome
) -> None:
    path.write_bytes(kind.packed(content))
    began = time.process_time()
    try:
        with warnings.catch_warnings(record=True) as told, steps.counted():
            warnings.simplefilter("always")
            kind.read(path)
    except UserError as error:
        outcome.refused += 1
        if not str(error) or len(str(error)) > LONGEST_MESSAGE:
            outcome.wrong.append(f"{case}: a message of {len(str(error))} letters")
        if (cause := of_memory(error)) and not kind.theirs:
            outcome.wrong.append(f"{case}: {cause} behind {str(error)[:300]}")
    except Exception as error:
        outcome.wrong.append(f"{case}: {type(error).__name__}: {str(error)[:300]}")
    taken = time.process_time() - began
    for warning in told:  # a user sees an error or nothing, not what NumPy thinks of a file
        outcome.wrong.append(f"{case}: {warning.category.__name__}: {warning.message}")
    if taken > LONGEST_S:
        outcome.wrong.append(f"{case}: {taken:.1f} s")
    outcome.longest_s = max(outcome.longest_s, taken)


def of_memory(error: BaseException | None) -> MemoryError | None:
    """What an error came of, where that is that memory was asked for which is not there.

    Not what FFmpeg and TensorFlow ask for, who find out themselves that it is too much.
    """
    while error is not None:
        theirs = hasattr(error, "errno") or str(error) == "std::bad_alloc"
        if isinstance(error, MemoryError) and not theirs:
            return error
        error = error.__cause__ or error.__context__
    return None


def check(name: str, kind: Kind, cases: int) -> None:
    """Fails with the names of the cases that were neither read nor refused as they should.

    With the name of a case in VATT_CASE that one alone is read, and what it raises is shown.
    """
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY) as folder:
        path = Path(folder, kind.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if case := os.environ.get("VATT_CASE"):
            of, _, way = case.partition(":")
            if of == name:
                path.write_bytes(again(name, kind, way))
                kind.read(path)
            return
        outcome = explore(name, kind, path, cases)
    seeds, reached = outcome.steps
    print(
        f"{name}: {outcome.refused} of {cases} refused in {outcome.taken_s:.0f} s, the longest took"
        f" {outcome.longest_s:.2f} s, {seeds} steps by the seeds, {reached} with {outcome.files}"
        f" files, {outcome.grown / 2**20:.0f} MiB"
    )
    assert outcome.wrong == [], "\n".join(outcome.wrong[:_SHOWN])
    assert outcome.grown < MOST_BYTES
    assert reached > seeds or cases < MANY
    assert outcome.refused > 0 or not kind.choosy
