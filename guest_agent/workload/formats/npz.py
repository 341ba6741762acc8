"""Traces as arrays: a `.npz` file, as numpy.savez writes it.

Arrays, one entry per request: `page` (first 4 KiB page inside the disk), `npages` (pages; one
value for all, or absent: 1), `op` (0 read, 1 write; absent: all reads), `disk` (number; absent:
one disk), `t` (microseconds from the first request; absent: order only). `meta` may hold JSON
with `source` and `name`. Other arrays are not read.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from guest_agent.workload.events import PAGE_COUNT_MAX, PAGE_INDEX_MAX, Trace, TraceError
from guest_agent.workload.formats.base import Options, Sample, from_columns, unreadable

_ZIP: Final = b"PK\x03\x04"

_DAMAGES: Final = (
    *(ValueError, EOFError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What numpy and zipfile raise over an archive that is not whole."""


def is_npz(sample: Sample) -> bool:
    """Whether it is a zip file."""
    return sample.head.startswith(_ZIP)


def read_npz(path: Path, options: Options) -> Trace:
    """Read an arrays file."""
    del options  # pages are pages here
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {
                name: archive[name]
                for name in ("page", "npages", "op", "disk", "t", "meta")
                if name in archive.files
            }
    except OSError as error:
        raise unreadable(path, error) from error
    except _DAMAGES as error:
        raise TraceError(f"{path}: damaged or not an arrays file: {error}") from error
    try:
        return _trace(arrays, path.name)
    except ValueError as error:
        raise TraceError(f"{path}: {error}") from error


def _trace(arrays: dict[str, NDArray[np.generic]], name: str) -> Trace:
    if "page" not in arrays:
        raise ValueError("has no array `page`")
    length = len(np.atleast_1d(arrays["page"]))
    pages = _column(arrays, "page", length, 0, PAGE_INDEX_MAX)
    if "npages" in arrays and arrays["npages"].shape == (1,):
        arrays["npages"] = np.broadcast_to(arrays["npages"], length)
    counts = _column(arrays, "npages", length, 1, PAGE_COUNT_MAX)
    writes = _column(arrays, "op", length, 0, 1).astype(np.bool_) if "op" in arrays else None
    numbers, disks = np.unique(_column(arrays, "disk", length, 0, 1 << 31), return_inverse=True)
    return from_columns(
        disk_names=tuple(f"disk-{number}" for number in numbers.tolist()),
        disks=disks.astype(np.int32),
        pages=pages,
        counts=counts.astype(np.int32),
        writes=writes,
        times=_column(arrays, "t", length, -(1 << 62), 1 << 62) if "t" in arrays else None,
        origin=_origin(arrays.get("meta"), name),
    )


def _column(
    arrays: dict[str, NDArray[np.generic]], name: str, length: int, low: int, high: int
) -> NDArray[np.int64]:
    """Return an array checked and as int64; `low` everywhere if it is absent."""
    if name not in arrays:
        return np.full(length, low, dtype=np.int64)
    array = arrays[name]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ValueError(f"array `{name}` is not a list of integers")
    if len(array) != length:
        raise ValueError(f"array `{name}` has {len(array)} entries, `page` has {length}")
    wrong = np.flatnonzero((array < low) | (array > high))  # type: ignore[operator]
    if len(wrong):
        place = int(wrong[0])
        raise ValueError(
            f"record {place + 1}: {name} is {array[place]}; it must be {low} to {high}"
        )
    return array.astype(np.int64)


def _origin(meta: NDArray[np.generic] | None, name: str) -> str:
    if meta is None:
        return f"arrays {name}"
    try:
        told = json.loads(meta.astype(np.uint8).tobytes())
        return f"{told['name']} ({told['source']})"
    except (ValueError, KeyError, TypeError):
        return f"arrays {name}"
