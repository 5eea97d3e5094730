"""TFRecord files: where records begin and end, also in a damaged file.

    for record in framing.walk(path):        # every record, and a report for every damaged place
        ...
    framing.count(path)                      # reads the lengths only

A TFRecord is the length of its payload (uint64), the checksum of these eight bytes, the payload and
its checksum; all little-endian. TensorFlow gives up on a file at the first error; this goes on.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np

from vatt.errors import DataError

_LENGTH, _HEADER, _FOOTER = 8, 12, 4  # bytes: length, length with its checksum, payload's checksum
_FIRST_BLOCK, _BLOCK = 1 << 10, 1 << 20  # bytes looked at together: at first, at most
_READ_AGAIN = 4  # times the size of a file that is read to find out where it goes on
_READERS = 32  # files counted at the same time; most of the time is waiting for the disk
_SHOWN = 5


@dataclass
class RawRecord:
    """One record of a shard, or what stands in the place of one or more."""

    index: int  # in the shard, counting every damaged place as one record
    offset: int  # byte where the header begins
    data: bytes | None
    problem: str = ""  # "" when intact
    passed_over: int = 0  # bytes until the next record, where framing was lost


class Segment(NamedTuple):
    """A piece of a shard that can be read from its byte offset on."""

    first: int  # index of its first record
    offset: int
    records: int


class Damage(NamedTuple):
    """A place between segments."""

    index: int  # of the first record lost
    offset: int
    reason: str
    records: int  # how many were lost; negative where there are more than expected


# Headers -----------------------------------------------------------------------------------------


class _Header(NamedTuple):
    """What stands before a payload."""

    length: int
    intact: bool  # the checksum of the length matches

    def end(self, offset: int) -> int:
        """The byte after a record whose header is at `offset`."""
        return offset + _HEADER + self.length + _FOOTER


def _header(file: BinaryIO, offset: int) -> _Header | None:
    """Returns the header at a byte, or None where the file ends within it."""
    file.seek(offset)
    header = file.read(_HEADER)
    if len(header) < _HEADER:
        return None
    length, stored = struct.unpack("<QI", header)
    return _Header(length, masked_checksum(header[:_LENGTH]) == stored)


def masked_checksum(data: bytes) -> int:
    """Returns the CRC-32C of bytes as TFRecord files store it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def checksums_of_lengths(lengths: np.ndarray) -> np.ndarray:
    """Returns the checksums of the eight bytes of each length, uint64 [n] -> uint32 [n].

    A checksum is affine in the bits of the data: that of a length is that of 0, xor what each of
    its bytes changes.
    """
    zero, changes = _changes()
    crc = np.full(len(lengths), zero, np.uint32)
    most = int(lengths.max(initial=0))
    for byte in range(-(-most.bit_length() // 8)):  # the upper ones are 0
        crc ^= changes[byte][(lengths >> np.uint64(8 * byte)).astype(np.uint8)]
    return (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)


@functools.cache
def _changes() -> tuple[int, np.ndarray]:
    """CRC-32C of eight zero bytes, and uint32 [8, 256]: what each value of each byte changes."""
    zero = google_crc32c.value(bytes(_LENGTH))
    changes = [
        [google_crc32c.value((value << 8 * byte).to_bytes(_LENGTH, "little")) ^ zero
         for value in range(256)]
        for byte in range(_LENGTH)
    ]  # fmt: skip
    return zero, np.array(changes, np.uint32)


# Reading -----------------------------------------------------------------------------------------


def walk(path: Path) -> Iterator[RawRecord]:
    """Yields every record of a shard, in order, and a report for every damaged place.

    A damaged payload costs its record. After a damaged header reading goes on at the next byte
    where a record certainly begins. Memory is that of the largest record.
    """
    size = os.path.getsize(path)
    offset = index = 0
    allowed = _Allowance(_READ_AGAIN * size)
    with open(path, "rb") as file:
        while offset < size:
            payload, problem, end = _read(file, offset, size)
            passed_over = 0
            if payload is None and not _begins(file, end, size):
                found = _next_record(file, offset + 1, min(end or size, size), size, allowed)
                if end is None or found < end:
                    end, passed_over = found, found - offset
                    problem += f"; {passed_over} bytes passed over"
            yield RawRecord(index, offset, payload, problem, passed_over)
            index, offset = index + 1, end


def segments(path: Path, expected: int | None = None) -> tuple[list[Segment], list[Damage]]:
    """Returns the pieces of a shard that can be read, and what is lost between them.

    `expected` is the number of records the shard had, see `losses`.
    """
    pieces: list[Segment] = []
    damaged: list[RawRecord] = []
    found = 0
    for record in walk(path):
        if record.problem:
            damaged.append(record)
        elif pieces and pieces[-1].first + pieces[-1].records == record.index:
            pieces[-1] = pieces[-1]._replace(records=pieces[-1].records + 1)
        else:
            pieces.append(Segment(record.index, record.offset, 1))
        found += 1
    lost = losses(path, damaged, found, expected)
    return [p._replace(first=true_index(p.first, p.offset, lost)) for p in pieces], lost


def losses(
    path: Path, damaged: Sequence[RawRecord], found: int, expected: int | None = None
) -> list[Damage]:
    """Returns what a walk that gave `found` records, some of them damaged, says is lost.

    With the number of records `expected`, all losses together are exact; where framing was lost in
    several places, the last one gets what cannot be told apart. Without it each damaged place
    counts as one record.
    """
    counts = [1] * len(damaged)
    missing = 0 if expected is None else expected - found
    unsure = [number for number, record in enumerate(damaged) if record.passed_over]
    if missing and unsure:
        change = max(missing, -1)  # bytes added between records are no record
        counts[unsure[-1]] += change
        missing -= change
    lost, moved = [], 0
    for record, count in zip(damaged, counts, strict=True):
        lost.append(Damage(record.index + moved, record.offset, record.problem, count))
        moved += count - 1
    if missing:
        number = f"{abs(missing)} record{'s' if abs(missing) > 1 else ''}"
        reason = f"{number} {'fewer' if missing > 0 else 'more'} than expected"
        lost.append(Damage(found + moved, os.path.getsize(path), reason, missing))
    return lost


def true_index(index: int, offset: int, lost: Sequence[Damage]) -> int:
    """Returns the place in its shard of the record that a walk gave at a byte under `index`."""
    return index + sum(damage.records - 1 for damage in lost if damage.offset < offset)


def _read(file: BinaryIO, offset: int, size: int) -> tuple[bytes | None, str, int | None]:
    """Returns the payload of the record at a byte, or None and why; and where the record ends."""
    header = _header(file, offset)
    if header is None or not header.intact:
        return None, "the header is damaged", None
    length, end = header.length, header.end(offset)
    if end > size:
        return None, f"cut off: {end - size} bytes are missing", end
    payload = file.read(length)
    (stored,) = struct.unpack("<I", file.read(_FOOTER))
    if masked_checksum(payload) == stored:
        return payload, "", end
    return None, f"the checksum of the payload ({length} bytes) does not match", end


def _begins(file: BinaryIO, offset: int | None, size: int) -> bool:
    """Whether the file ends at a byte or has an intact header there."""
    if offset is None or offset >= size:
        return offset == size
    header = _header(file, offset)
    return header is not None and header.intact


class _Allowance:
    """How many bytes of payloads may still be read to find out where records begin."""

    def __init__(self, left: int) -> None:
        self.left = left

    def takes(self, count: int) -> bool:
        """Takes so many, if there are as many."""
        enough = count <= self.left
        self.left -= count if enough else 0
        return enough


def _next_record(file: BinaryIO, start: int, stop: int, size: int, allowed: _Allowance) -> int:
    """Returns the byte, from `start` on, where the next record begins; `stop` if that is before.

    Its header must be intact, and a header or the file's end follow it, or its payload be intact.
    The latter is not asked of more bytes than are allowed: a file can be made of nothing but
    headers, each of which says that the rest of the file is its payload.
    """
    length = _FIRST_BLOCK
    while start < min(stop, size - _HEADER - _FOOTER + 1):
        for position, payload in _intact_headers(file, start, length, size):
            if position >= stop:
                break
            if _begins(file, position + _HEADER + payload + _FOOTER, size):
                return position
            if allowed.takes(payload) and _read(file, position, size)[0] is not None:
                return position
        start, length = start + length, min(2 * length, _BLOCK)
    return stop


def _intact_headers(file: BinaryIO, base: int, length: int, size: int) -> Iterator[tuple[int, int]]:
    """Yields where headers begin whose record fits, and the lengths of payloads, in a block."""
    file.seek(base)
    block = np.frombuffer(file.read(length + _HEADER - 1), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(block, _HEADER)  # [positions, 12]
    lengths = np.ascontiguousarray(windows[:, :_LENGTH]).view("<u8")[:, 0]
    room = np.maximum(size - _HEADER - _FOOTER - base - np.arange(len(windows)), 0)
    fitting = np.flatnonzero(lengths <= room.astype(np.uint64))
    stored = np.ascontiguousarray(windows[fitting, _LENGTH:]).view("<u4")[:, 0]
    intact = fitting[checksums_of_lengths(lengths[fitting]) == stored]
    yield from zip((base + intact).tolist(), lengths[intact].tolist(), strict=True)


# Counting ----------------------------------------------------------------------------------------


def count_records(shards: Sequence[Path]) -> dict[Path, int]:
    """Returns how many records TFRecord files hold, reading the lengths in them only.

    Raises:
      DataError: files are cut off, damaged or no TFRecord files; each is named.
    """
    with futures.ThreadPoolExecutor(min(_READERS, len(shards) or 1)) as pool:
        counts = [pool.submit(count, shard) for shard in shards]
    faults = [str(counted.exception()) for counted in counts if counted.exception()]
    if len(faults) == 1:
        raise DataError(faults[0])
    if faults:
        more = f"\n  ... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        shown = "\n  ".join(faults[:_SHOWN])
        raise DataError(f"{len(faults)} shards cannot be counted:\n  {shown}{more}")
    return {shard: counted.result() for shard, counted in zip(shards, counts, strict=True)}


def count(path: Path) -> int:
    """Returns how many records a TFRecord file holds, reading the lengths in it only.

    One with a damaged checksum is a record as well: reading it finds that out.

    Raises:
      DataError: it is cut off, damaged or no TFRecord file.
    """
    records = offset = 0
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while offset < size:
            header = _header(file, offset)
            if header is None or header.end(offset) > size:
                raise DataError(
                    f"{path}: at byte {offset}, after {records} records, a record begins that does "
                    f"not end within the {size} bytes of the file; the file is cut off, damaged, "
                    f"compressed or no TFRecord file"
                )
            offset, records = header.end(offset), records + 1
    return records
