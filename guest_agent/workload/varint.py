"""Columns of integers as LEB128 bytes and back, without a Python loop.

Rules:
- Unsigned values take 7 bits a byte, low bits first; the high bit says that more follow.
- Signed values are folded first (0, -1, 1, -2 become 0, 1, 2, 3), so small stays short.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_BYTES_MAX: Final = 10
"""Bytes of the longest 64-bit value."""


def fold(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Map signed to unsigned so that small magnitudes stay small."""
    return ((values << 1) ^ (values >> 63)).view(np.uint64)


def unfold(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Undo `fold`."""
    half = (values >> np.uint64(1)).view(np.int64)
    sign = (values & np.uint64(1)).view(np.int64)
    return half ^ -sign


def encode(values: NDArray[np.uint64]) -> bytes:
    """Return the LEB128 bytes of `values`, one after the other."""
    if not len(values):
        return b""
    shifts = np.arange(_BYTES_MAX, dtype=np.uint64) * np.uint64(7)
    groups = values[:, None] >> shifts
    used = groups != 0
    used[:, 0] = True
    digits = (groups & np.uint64(0x7F)).astype(np.uint8)
    # A byte is followed by another exactly where the next group is used.
    digits[:, :-1] |= used[:, 1:].astype(np.uint8) << np.uint8(7)
    return bytes(digits[used])


def decode(data: bytes, count: int) -> NDArray[np.uint64]:
    """Return the `count` values of which `data` consists.

    Raises:
        ValueError: `data` holds another number of values, or one over 64 bits.
    """
    digits = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(digits < 0x80)
    if len(ends) != count or (len(digits) and digits[-1] >= 0x80):
        raise ValueError("not the number of values")
    if not count:
        return np.zeros(0, dtype=np.uint64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if int(lengths.max()) > _BYTES_MAX:
        raise ValueError("a value over 64 bits")
    place = np.arange(len(digits)) - np.repeat(starts, lengths)
    parts = (digits & np.uint8(0x7F)).astype(np.uint64) << (place.astype(np.uint64) * np.uint64(7))
    return np.add.reduceat(parts, starts, dtype=np.uint64)
