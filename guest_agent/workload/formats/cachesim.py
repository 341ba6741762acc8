"""libCacheSim's two general formats: CSV with chosen columns, and oracleGeneral binary.

CSV: columns by `--columns` in libCacheSim's own words, counted from 1 (`time-col`, `obj-id-col`,
`obj-size-col`, `op-col`, `delimiter`, `has-header`); else by the header's names; else, without a
header, time, id, size. Time is in seconds, size in bytes (one page if there is no such column).
oracleGeneral: records of 24 bytes, little-endian and packed: time in seconds (uint32), object id
(uint64), bytes (uint32), the number of the object's next request (int64, not used). No reads and
writes are told apart there: all are reads.

An object id is a name unless its header says more (`lbn`, `lba`, `sector`: 512-byte sectors;
`offset`: bytes; `page`, `block`: pages) or `--id-unit` does. A named object gets pages of its own,
ceil(size / 4096) of them, so that objects never overlap. CloudPhysics files hold sectors.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from guest_agent.workload.events import PAGE_COUNT_MAX, PAGE_INDEX_MAX, Trace, TraceError
from guest_agent.workload.formats.base import (
    SECTOR_BYTES,
    Options,
    Requests,
    Sample,
    all_bytes,
    from_columns,
    lines,
    microseconds,
    number,
    number_objects,
)
from shared.arch import PAGE_SIZE

_NAMES: Final = {
    "time": ("time", "timestamp", "ts", "clock_time", "real_time"),
    "id": (
        *("obj_id", "object_id", "objid", "object", "obj", "id", "key"),
        *("lbn", "lba", "sector", "offset", "page", "block"),
    ),
    "size": ("obj_size", "object_size", "size", "bytes", "length", "len"),
    "op": ("op", "op_type", "operation", "cmd", "rw", "type"),
}
_UNIT_OF_NAME: Final = {
    **dict.fromkeys(("lbn", "lba", "sector"), "sector"),
    "offset": "byte",
    **dict.fromkeys(("page", "block"), "page"),
}
_UNIT_BYTES: Final = {"sector": SECTOR_BYTES, "page": PAGE_SIZE, "byte": 1}
_READS: Final = {"r", "read", "get", "gets", "0", "8", "08", "28", "88", "a8"}
_WRITES: Final = {"w", "write", "set", "put", "add", "update", "replace", "append", "1"} | {
    *("prepend", "cas", "incr", "decr", "a", "0a", "2a", "8a", "aa")
}
"""Words, digits, and the SCSI operation codes of VMware's captures (28 READ, 2a WRITE, ...)."""

_DELIMITERS: Final = (",", "\t", "|", ";")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which column is what, from 0; None: there is none."""

    delimiter: str
    has_header: bool
    time: int | None
    id: int
    size: int | None
    op: int | None
    unit: str


def is_csv(sample: Sample) -> bool:
    """Whether the first line is a known header, or numbers between delimiters."""
    rows = sample.first_lines(1)
    if not rows:
        return False
    fields = _split(rows[0], _delimiter(rows[0]))
    named = {name for names in _NAMES.values() for name in names}
    return len(fields) >= 2 and (
        bool(named & {_plain(field) for field in fields})
        or all(field.replace(".", "", 1).isdecimal() for field in fields)
    )


def is_oracle(sample: Sample) -> bool:
    """Whether the first records are ones: times ascend, sizes and next requests make sense."""
    if sample.byte_count is None or sample.byte_count % _RECORD.itemsize:
        return False
    usable = len(sample.head) // _RECORD.itemsize
    records = np.frombuffer(sample.head, dtype=_RECORD, count=usable)
    following, own = records["next"], np.arange(usable)
    return (
        usable > 0
        and bool((np.diff(records["time"].astype(np.int64)) >= 0).all())
        and bool(((following == -1) | (following > own)).all())
        and int(records["size"].max()) <= 1 << 31
    )


def read_csv(path: Path, options: Options) -> Trace:
    """Read a CSV file."""
    layout: _Layout | None = None
    rows = _CsvRows(options)
    for place, line in lines(path):
        try:
            if layout is None:
                layout = _layout(line, options)
                if layout.has_header:
                    continue
            rows.add(_split(line, layout.delimiter), layout)
        except ValueError as error:
            raise TraceError(f"{path}: line {place}: {error}") from error
    return rows.trace(f"CSV trace {path.name}")


_RECORD: Final = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])


def read_oracle(path: Path, options: Options) -> Trace:
    """Read an oracleGeneral file."""
    data = all_bytes(path)
    count, rest = divmod(len(data), _RECORD.itemsize)
    if rest:
        raise TraceError(f"{path}: record {count + 1} is cut off: {rest} of 24 bytes")
    records = np.frombuffer(data, dtype=_RECORD)
    records = records[records["size"] != 0]
    sizes = records["size"].astype(np.int64)
    unit = options.id_unit or "object"
    if unit == "object":
        counts = -(-sizes // PAGE_SIZE)
        starts, _ = number_objects(records["id"], counts)
    else:
        scale = _UNIT_BYTES[unit]
        far = records["id"] > (PAGE_INDEX_MAX * PAGE_SIZE >> 1) // scale
        if far.any():
            where = int(np.flatnonzero(far)[0]) + 1
            raise TraceError(f"{path}: record {where}: the id is no {unit}; try --id-unit object")
        offsets = records["id"].astype(np.int64) * scale + options.sector_shift * SECTOR_BYTES
        starts = offsets // PAGE_SIZE
        counts = (offsets + sizes - 1) // PAGE_SIZE - starts + 1
        if len(starts) and int(starts.min()) < 0:
            raise TraceError(f"{path}: the sector shift leads before the disk's beginning")
    times = records["time"].astype(np.int64) * 1_000_000
    return from_columns(
        disk_names=("objects" if unit == "object" else "disk",),
        disks=np.zeros(len(records), dtype=np.int32),
        pages=starts,
        counts=counts.astype(np.int32),
        writes=None,
        times=times - times[0] if len(times) else times,
        origin=f"oracleGeneral trace {path.name}",
    )


class _CsvRows:
    """Requests by place, or by object, whichever the id's unit says."""

    def __init__(self, options: Options) -> None:
        self._placed = Requests(options)
        self._names: dict[str, int] = {}
        self._objects = array("q")
        self._counts = array("q")
        self._writes = bytearray()
        self._times = array("q")

    def add(self, fields: list[str], layout: _Layout) -> None:
        """Add one line. Raises ValueError."""
        columns = (layout.time, layout.id, layout.size, layout.op)
        if max(column for column in columns if column is not None) >= len(fields):
            raise ValueError(f"only {len(fields)} columns")
        time = None if layout.time is None else microseconds(fields[layout.time], "time")
        size = PAGE_SIZE if layout.size is None else number(fields[layout.size], "size")
        write = False if layout.op is None else _is_write(fields[layout.op])
        if layout.unit != "object":
            offset = number(fields[layout.id], "id") * _UNIT_BYTES[layout.unit]
            self._placed.add("disk", offset, size, write=write, time=time)
        elif size > PAGE_COUNT_MAX * PAGE_SIZE:
            raise ValueError(f"size is {size}, more than an object can hold")
        elif size:
            self._objects.append(self._names.setdefault(fields[layout.id], len(self._names)))
            self._counts.append(-(-size // PAGE_SIZE))
            self._writes.append(write)
            if time is not None:
                self._times.append(time)

    def trace(self, origin: str) -> Trace:
        """Return what was gathered."""
        if len(self._placed) or not self._objects:
            return self._placed.trace(origin)
        counts = np.array(self._counts, dtype=np.int64)
        starts, _ = number_objects(np.array(self._objects, dtype=np.uint64), counts)
        times = np.array(self._times, dtype=np.int64)
        return from_columns(
            disk_names=("objects",),
            disks=np.zeros(len(starts), dtype=np.int32),
            pages=starts,
            counts=counts.astype(np.int32),
            writes=np.frombuffer(bytes(self._writes), dtype=np.bool_),
            times=times - times[0] if len(times) else None,
            origin=origin,
        )


def _is_write(field: str) -> bool:
    word = field.lower()
    if word in _WRITES:
        return True
    if word in _READS:
        return False
    raise ValueError(f"op is {field[:40]!r}, which is neither a read nor a write")


def _plain(name: str) -> str:
    return name.strip().strip('"').lower().replace("-", "_").replace(" ", "_")


def _split(line: str, delimiter: str) -> list[str]:
    return [field.strip().strip('"') for field in line.split(delimiter)]


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def _layout(line: str, options: Options) -> _Layout:
    """Decide the columns from the options and the first line."""
    given = _given_columns(options.columns)
    delimiter = given.pop("delimiter", "") or _delimiter(line)
    names = [_plain(field) for field in _split(line, delimiter)]
    header = given.pop("has_header", "")
    known = {name for group in _NAMES.values() for name in group}
    has_header = header == "true" if header else bool(known & {*names})
    if given:
        places = {role: number(text, role) - 1 for role, text in given.items()}
    elif has_header:
        places = {
            role: min(names.index(name) for name in group if name in names)
            for role, group in _NAMES.items()
            if any(name in names for name in group)
        }
    else:
        places = dict(zip(("time", "id", "size"), range(len(names)), strict=False))
    if "id" not in places or min(places.values()) < 0:
        raise ValueError("no column holds the object id; name it with --columns")
    named = names[places["id"]] if has_header and places["id"] < len(names) else ""
    return _Layout(
        delimiter=delimiter,
        has_header=has_header,
        time=places.get("time"),
        id=places["id"],
        size=places.get("size"),
        op=places.get("op"),
        unit=options.id_unit or _UNIT_OF_NAME.get(named, "object"),
    )


_COLUMN_KEYS: Final = {
    "time-col": "time",
    "obj-id-col": "id",
    "obj-size-col": "size",
    "op-col": "op",
    "delimiter": "delimiter",
    "has-header": "has_header",
}


def _given_columns(text: str | None) -> dict[str, str]:
    """Read libCacheSim's `key=value, key=value`; `obj-id-is-num` changes nothing here."""
    given = {}
    for part in (text or "").replace(",,", ",").split(","):
        key, equals, value = part.strip(" ").partition("=")
        if not key or key == "obj-id-is-num":
            continue
        if key not in _COLUMN_KEYS or not equals:
            raise ValueError(f"--columns does not know {part.strip()!r}")
        given[_COLUMN_KEYS[key]] = value
    return given
