"""Pickles as data: a machine of its own, which knows lists, numbers and texts, and runs nothing.

    content, end = read(buffer, 0, {"collections.OrderedDict": lambda arguments: {}})

A pickle is a program: with Python's own module, a file that asks for `os.system` gets it. Here a
name that a pickle asks for is a text, and what is made by it comes from a table of functions of the
caller; a name that is not in the table ends the reading and is told. Of the operations only those
are known that files of PyTorch and pickles of arrays are made of, with what Python 2 wrote instead.
What is wrong with a pickle is a ValueError.

Lists, mappings and tuples may refer to each other in circles and to any depth: who walks through
them must not follow all.
"""

from __future__ import annotations

import codecs
import mmap
import struct
from collections.abc import Callable, Mapping
from typing import Any

MAX_OPERATIONS = 2_000_000  # a model of 300 tensors takes 12 000
_SMALL = 256  # bytes: more of them stay where they are
_MAX_LINE = 1000  # bytes of a name or number
_MAX_KEY = 60  # bits of a number; larger ones can be chosen to have one hash

Make = Callable[[tuple[Any, ...]], Any]


class Name:
    """What a pickle asks for by name: the name."""

    def __init__(self, text: str, make: Make) -> None:
        """Takes "module.name" and what makes something of arguments."""
        self.text, self.make = text, make


class Stateful:
    """An object that a pickle gives its content after it was made."""

    def set_state(self, state: Any) -> None:
        """Takes the content; ValueError where it cannot be that."""
        raise NotImplementedError


class Inert(Stateful):
    """An object that only is there: which class it was of, and what it would be made from."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Takes "module.name" and arguments, which nobody evaluates."""
        self.name, self.arguments = name, arguments
        self.state: Any = None

    def set_state(self, state: Any) -> None:
        """Keeps it."""
        self.state = state


class Mapped(dict):
    """A mapping that was an object, so that a pickle may set attributes, which are left out."""


class UnknownNameError(ValueError):
    """A pickle asks for something that is not in the table."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"asks for {name[:120]!r}, code or a kind of object that is not read here; nothing of"
            " it was run"
        )


def inert(name: str) -> Make:
    """Returns what makes an `Inert` of that name."""
    return lambda arguments: Inert(name, arguments)


def refuse(arguments: object) -> Any:
    """What makes nothing: of names that are only mentioned."""
    raise ValueError("calls what cannot be called")


def read(
    buffer: bytes | mmap.mmap,
    start: int,
    names: Mapping[str, Make],
    persistent: Make = refuse,
    most: int = MAX_OPERATIONS,
) -> tuple[Any, int]:
    """Returns what a pickle holds, and where it ends.

    Args:
      buffer: bytes that it stands in, or a file that is mapped for reading. Long bytes in the
        pickle are views of it.
      start: where it begins.
      names: by "module.name", what makes something of the arguments that the pickle gives.
      persistent: makes something of an identifier outside the pickle.
      most: operations.

    Raises:
      ValueError: it is damaged or cut off, asks for another name, or is unreasonable.
    """
    machine = _Machine(buffer, start, names, persistent, most)
    try:
        return machine.run(), machine.place
    except (struct.error, UnicodeError):
        reason = "damaged or cut off"
    except (IndexError, KeyError, TypeError, OverflowError, MemoryError):  # the stack lacks it
        reason = "damaged, its operations do not fit together"
    raise ValueError(f"{reason} at byte {machine.place}")


class _Machine:
    """One pass over the operations of a pickle."""

    def __init__(
        self,
        buffer: bytes | mmap.mmap,
        place: int,
        names: Mapping[str, Make],
        persistent: Make,
        most: int,
    ) -> None:
        self.place, self._buffer, self._most = place, buffer, most
        self._names, self._persistent = names, persistent
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # stacks below the marks
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(self._most):
            code = self._take(1)
            if code == b".":
                if len(self._stack) != 1 or self._marked:
                    raise IndexError
                return self._stack[0]
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise ValueError(
                    f"operation {code!r} at byte {self.place - 1}: none that is read here"
                )
            operation(self)
        raise ValueError(f"more than {self._most} operations")

    # -- bytes -----------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        taken = self._buffer[self.place : self.place + count]
        if len(taken) < count:
            raise struct.error
        self.place += count
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        return self._bytes_of_line(self.place + _MAX_LINE).decode("utf-8")

    def _bytes_of_line(self, most: int) -> bytes:
        end = self._buffer.find(b"\n", self.place, most)
        if end < 0:
            raise struct.error
        return self._take(end + 1 - self.place)[:-1]

    # -- values ----------------------------------------------------------------------------

    def _constant(self, value: object) -> None:
        self._stack.append(value)

    def _scalar(self, form: str) -> None:
        self._stack.append(self._number(form))

    def _long(self) -> None:
        self._stack.append(int.from_bytes(self._take(self._number("<B")), "little", signed=True))

    def _decimal(self) -> None:
        line = self._line()
        flags = {"00": False, "01": True}
        self._stack.append(flags[line] if line in flags else int(line.removesuffix("L")))

    def _text_of_line(self) -> None:
        line = self._bytes_of_line(len(self._buffer))
        self._stack.append(line.decode("raw-unicode-escape"))

    def _string(self, form: str) -> None:
        count = self._number(form)
        if count < 0:
            raise struct.error
        self._old(self._take(count))

    def _quoted(self) -> None:
        """A text of Python 2, written as in a program."""
        line = self._bytes_of_line(len(self._buffer)).strip()
        if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
            raise struct.error
        self._old(codecs.escape_decode(line[1:-1])[0])

    def _old(self, content: bytes) -> None:
        """A text of Python 2, which may be numbers: what is not UTF-8 stays bytes."""
        try:
            self._stack.append(content.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            self._stack.append(content)

    def _text(self, form: str) -> None:
        count = self._number(form)
        if count < 0:
            raise struct.error
        self._stack.append(self._take(count).decode("utf-8", "surrogatepass"))

    def _bytes(self, form: str) -> None:
        count = self._number(form)
        if count <= _SMALL:
            self._stack.append(self._take(count))
            return
        found = memoryview(self._buffer)[self.place : self.place + count]
        if len(found) < count:
            raise struct.error
        self.place += count
        self._stack.append(found)

    # -- containers ------------------------------------------------------------------------

    def _mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _above_mark(self) -> list[Any]:
        above, self._stack = self._stack, self._marked.pop()
        return above

    def _tuple(self, count: int) -> None:
        if count > len(self._stack):
            raise IndexError
        start = len(self._stack) - count
        self._stack[start:] = [tuple(self._stack[start:])]

    def _marked_tuple(self) -> None:
        above = self._above_mark()
        self._stack.append(tuple(above))

    def _marked_list(self) -> None:
        above = self._above_mark()
        self._stack.append(above)

    def _marked_mapping(self) -> None:
        above = self._above_mark()
        self._stack.append({})
        self._set(above)

    def _append(self) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _extend(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise TypeError
        self._stack[-1].extend(values)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _set(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise TypeError
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # The hash of nested tuples may take for ever.
            if type(key) in (tuple, list, dict, Mapped, memoryview):
                raise ValueError(f"a mapping has a {type(key).__name__} for a key")
            if type(key) is int and key.bit_length() > _MAX_KEY:
                raise ValueError(f"a mapping has a number of {key.bit_length()} bits for a key")
            target[key] = value

    # -- memory ----------------------------------------------------------------------------

    def _put(self, form: str) -> None:
        self._memo[self._number(form)] = self._stack[-1]

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _put_line(self) -> None:
        self._memo[int(self._line())] = self._stack[-1]

    def _get_line(self) -> None:
        self._stack.append(self._memo[int(self._line())])

    def _get(self, form: str) -> None:
        self._stack.append(self._memo[self._number(form)])

    # -- names and what is made by them ----------------------------------------------------

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._named(module, name)

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._named(module, name)

    def _instance(self) -> None:
        """The oldest way to make an object: always by a name, which is told."""
        raise UnknownNameError(f"{self._line()}.{self._line()}")

    def _named(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?"
        if full not in self._names:
            raise UnknownNameError(full)
        self._stack.append(Name(full, self._names[full]))

    def _make(self) -> None:
        arguments, name = self._stack.pop(), self._stack.pop()
        if type(arguments) is not tuple or type(name) is not Name:
            raise ValueError(f"calls a {type(name).__name__}, which is no name")
        try:
            self._stack.append(name.make(arguments))
        except ValueError as error:
            raise ValueError(f"{name.text}: {error}") from None

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Stateful):
            target.set_state(state)
        elif type(target) is not Mapped:
            raise ValueError(f"sets attributes of a {type(target).__name__}, which has none")

    def _persistent_id(self) -> None:
        identifier = self._stack.pop()
        if type(identifier) is not tuple:
            raise TypeError
        self._stack.append(self._persistent(identifier))


_OPERATIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda m: m._take(1),  # the protocol
    b"\x95": lambda m: m._take(8),  # how long a frame is
    b"N": lambda m: m._constant(None),
    b"\x88": lambda m: m._constant(True),
    b"\x89": lambda m: m._constant(False),
    b"J": lambda m: m._scalar("<i"),
    b"K": lambda m: m._scalar("<B"),
    b"M": lambda m: m._scalar("<H"),
    b"G": lambda m: m._scalar(">d"),
    b"\x8a": lambda m: m._long(),
    b"X": lambda m: m._text("<I"),
    b"\x8c": lambda m: m._text("<B"),
    b"\x8d": lambda m: m._text("<Q"),
    b"I": lambda m: m._decimal(),
    b"L": lambda m: m._decimal(),
    b"F": lambda m: m._constant(float(m._line())),
    b"V": lambda m: m._text_of_line(),
    b"S": lambda m: m._quoted(),  # of Python 2, as the next two
    b"U": lambda m: m._string("<B"),
    b"T": lambda m: m._string("<i"),
    b"l": lambda m: m._marked_list(),
    b"d": lambda m: m._marked_mapping(),
    b"p": lambda m: m._put_line(),
    b"g": lambda m: m._get_line(),
    b"C": lambda m: m._bytes("<B"),
    b"B": lambda m: m._bytes("<I"),
    b"\x8e": lambda m: m._bytes("<Q"),
    b"\x96": lambda m: m._bytes("<Q"),  # that may be changed
    b"(": lambda m: m._mark(),
    b")": lambda m: m._constant(()),
    b"]": lambda m: m._constant([]),
    b"}": lambda m: m._constant({}),
    b"t": lambda m: m._marked_tuple(),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"a": lambda m: m._append(),
    b"e": lambda m: m._extend(m._above_mark()),
    b"s": lambda m: m._set_item(),
    b"u": lambda m: m._set(m._above_mark()),
    b"q": lambda m: m._put("<B"),
    b"r": lambda m: m._put("<I"),
    b"\x94": lambda m: m._memoize(),
    b"h": lambda m: m._get("<B"),
    b"j": lambda m: m._get("<I"),
    b"c": lambda m: m._global(),
    b"\x93": lambda m: m._stack_global(),
    b"i": lambda m: m._instance(),
    b"R": lambda m: m._make(),
    b"\x81": lambda m: m._make(),
    b"b": lambda m: m._build(),
    b"Q": lambda m: m._persistent_id(),
}
