"""CRC-32C in NumPy, many lanes at a time, masked as TFRecord files store it.

TensorFlow checks records when it reads them, but gives up on a file at the first error; this is for
reading on (`vatt.data.records.walk`).
"""

from __future__ import annotations

import functools

import numpy as np

_ONES = 0xFFFFFFFF
_LANE_BITS = 9  # a lane is 512 bytes
_BLOCK = 1 << 20  # bytes cut into lanes together


def of_payload(payload: bytes) -> int:
    """Returns the checksum of any bytes."""
    crc = np.array([_ONES], np.uint32)
    for start in range(0, len(payload), _BLOCK):
        block = np.frombuffer(payload, np.uint8, min(_BLOCK, len(payload) - start), start)
        for level in range(len(block).bit_length()):
            if len(block) >> level & 1:
                crc = _pass_zeros(crc, level)
        crc = crc ^ _register(block)
    return int(_mask(crc)[0])


def of_lengths(lengths: np.ndarray) -> np.ndarray:
    """Returns the checksums of the eight bytes of lengths, both uint64 [n]."""
    return _mask(_registers(lengths[:, np.newaxis], _ONES))


def _mask(crc: np.ndarray) -> np.ndarray:
    crc = (crc ^ _ONES).astype(np.uint64)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _ONES


def _register(block: np.ndarray) -> np.ndarray:
    """Register, uint32 [1], that begun at zero has taken in bytes, uint8 [n].

    The block is cut into lanes. The register of A followed by B is that of A after as many zero
    bytes as B has, xor that of B; zero bytes in front change nothing.
    """
    lane = 1 << _LANE_BITS
    padded = np.pad(block, (-len(block) % lane, 0))
    registers = _registers(padded.view("<u8").reshape(-1, lane // 8))
    level = _LANE_BITS
    while len(registers) > 1:
        registers = np.pad(registers, (len(registers) % 2, 0))
        registers = _pass_zeros(registers[::2], level) ^ registers[1::2]
        level += 1
    return registers


def _registers(words: np.ndarray, start: int = 0) -> np.ndarray:
    """Registers, uint32 [lanes], that begun at `start` have taken in words, uint64 [lanes, n]."""
    first, second, third, fourth = _word_tables()
    registers = np.full(len(words), start, np.uint64)
    for word in np.ascontiguousarray(words.T):
        parts = (word ^ registers).view("<u2").reshape(-1, 4)
        registers = first[parts[:, 0]] ^ second[parts[:, 1]] ^ third[parts[:, 2]]
        registers = (registers ^ fourth[parts[:, 3]]).astype(np.uint64)
    return registers.astype(np.uint32)


def _pass_zeros(registers: np.ndarray, level: int) -> np.ndarray:
    """Registers, uint32, after 2**level bytes of zero."""
    tables = _zero_tables(level)
    result = tables[0][registers & 255]
    for byte in (1, 2, 3):
        result = result ^ tables[byte][registers >> 8 * byte & 255]
    return result


@functools.cache
def _zero_tables(level: int) -> np.ndarray:
    """Uint32 [4, 256]: what 2**level bytes of zero make of each byte of a register."""
    if level:
        return _pass_zeros(_zero_tables(level - 1), level - 1)
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ 0x82F63B78, table >> 1)  # reflected polynomial
    upper = [np.arange(256, dtype=np.uint32) << 8 * byte >> 8 for byte in (1, 2, 3)]
    return np.stack([table, *upper])


@functools.cache
def _word_tables() -> np.ndarray:
    """Uint32 [4, 65536]: what a register becomes by each quarter of a word of eight bytes."""
    by_byte = [_zero_tables(0)[0]]  # from the last byte of the word to the first
    for _ in range(7):
        by_byte.insert(0, _pass_zeros(by_byte[0], 0))
    low, high = np.arange(65536) & 255, np.arange(65536) >> 8
    return np.stack([by_byte[at][low] ^ by_byte[at + 1][high] for at in (0, 2, 4, 6)])
