"""The `.essa-trace` file: a trace in a few bytes per request, and never half a one.

Rules:
- The file is a signature and chunks, each with its length and its checksum; the last one is
  DONE. A file that ends before it is cut off, and says so.
- Everything read is checked before it is used; nothing of a damaged trace is returned.
- docs/TRACES.md describes every byte; a change of the layout raises VERSION.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from guest_agent.workload import varint
from guest_agent.workload.events import (
    PAGE_COUNT_MAX,
    PAGE_INDEX_MAX,
    EventKind,
    Trace,
    TraceError,
    TraceFile,
)

SUFFIX: Final = ".essa-trace"
VERSION: Final = 1

SIGNATURE: Final = b"\x89ESSA\r\n\x1a"
"""Not text, and broken by anything that changes line ends."""

CHUNK_EVENTS: Final = 65_536
"""Events of one EVTS chunk at most."""

_HEAD: Final = struct.Struct("<HHQI")
_FRAME: Final = struct.Struct("<4sI")
_CRC: Final = struct.Struct("<I")
_DONE: Final = struct.Struct("<Q")
_FLAG_TIMES: Final = 1
_COLUMNS: Final = 6
_INFLATED_MAX: Final = 1 << 26
"""Bytes that a chunk may inflate to: the file table's bound; an EVTS chunk stays far below."""


def shipped() -> dict[str, Path]:
    """Return the shipped traces, by name."""
    folder = Path(__file__).parent / "traces"
    return {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def resolve(name_or_path: str) -> Path:
    """Return the file of a shipped trace's name, or of a path.

    A shipped name wins over a file of that name in the working directory; write `./name` for
    the file.

    Raises:
        TraceError: it is neither.
    """
    traces = shipped()
    if name_or_path in traces:
        return traces[name_or_path]
    path = Path(name_or_path)
    if path.is_dir():
        raise TraceError(f"{name_or_path}: is a directory, not a trace")
    if not path.exists():
        raise TraceError(
            f"{name_or_path}: neither a file nor a shipped trace ({', '.join(traces)})"
        )
    return path


def save(path: Path, trace: Trace) -> None:
    """Write `trace` to `path`; the file appears whole or not at all.

    Raises:
        TraceError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(SIGNATURE)
            for tag, payload in _chunks(trace):
                frame = _FRAME.pack(tag, len(payload))
                file.write(frame + payload + _CRC.pack(zlib.crc32(payload, zlib.crc32(frame))))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TraceError(f"{path}: {error.strerror}") from error


def load(path: Path) -> Trace:
    """Read a `.essa-trace` file.

    Raises:
        TraceError: it cannot be read, is no such file, is cut off or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
    try:
        return loads(data)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from error


def loads(data: bytes) -> Trace:
    """Read the bytes of a `.essa-trace` file. Raises TraceError as `load` does."""
    if not data.startswith(SIGNATURE):
        short = data and SIGNATURE.startswith(data)
        raise TraceError("cut off in its signature" if short else "not an ESSA trace")
    chunks = _frames(data)
    version, flags, length, file_count, origin = _head(next(chunks))
    if version != VERSION:
        raise TraceError(f"has format version {version}; this program reads {VERSION}")
    files = _file_table(next(chunks), file_count)
    columns: list[list[NDArray[np.int64]]] = []
    for tag, payload in chunks:
        if tag == b"EVTS":
            columns.append(_events(payload, with_times=bool(flags & _FLAG_TIMES)))
        elif payload != _DONE.pack(sum(len(part[0]) for part in columns)):
            raise TraceError("damaged: its parts do not add up")
    trace = _joined(files, columns, with_times=bool(flags & _FLAG_TIMES), origin=origin)
    if len(trace) != length:
        raise TraceError(f"damaged: {len(trace)} events where the header says {length}")
    _check(trace)
    return trace


# Writing


def _chunks(trace: Trace) -> Iterator[tuple[bytes, bytes]]:
    origin = trace.origin.encode()
    flags = 0 if trace.times is None else _FLAG_TIMES
    yield b"HEAD", _HEAD.pack(VERSION, flags, len(trace), len(trace.files)) + origin
    table = bytearray()
    for file in trace.files:
        name = file.name.encode()
        sizes = np.array([len(name), file.pages, file.initial_pages], dtype=np.uint64)
        table += varint.encode(sizes[:1]) + name + varint.encode(sizes[1:])
    yield b"FILE", zlib.compress(bytes(table), 9)
    for start in range(0, len(trace), CHUNK_EVENTS):
        yield b"EVTS", _packed(trace, slice(start, start + CHUNK_EVENTS))
    yield b"DONE", _DONE.pack(len(trace))


def _packed(trace: Trace, part: slice) -> bytes:
    files = trace.file_column[part].astype(np.int64)
    pages = trace.pages[part]
    counts = trace.counts[part].astype(np.int64)
    columns = [
        trace.kinds[part].astype(np.uint64),
        varint.fold(_steps(trace.processes[part].astype(np.int64))),
        varint.fold(_steps(files)),
        varint.fold(_jumps(files, pages, counts)),
        counts.view(np.uint64),
        varint.fold(_steps(trace.extras[part].astype(np.int64))),
    ]
    if trace.times is not None:
        columns.append(varint.fold(_steps(trace.times[part])))
    body = bytearray(varint.encode(np.array([len(pages)], dtype=np.uint64)))
    for column in columns:
        encoded = varint.encode(column)
        body += varint.encode(np.array([len(encoded)], dtype=np.uint64)) + encoded
    return zlib.compress(bytes(body), 6)


def _steps(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.diff(values, prepend=np.int64(0))


def _jumps(
    files: NDArray[np.int64], pages: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return each run's distance from the end of the same file's run before it.

    Programs read on where they stopped, so most are 0. The first of a file counts from 0.
    """
    order = np.argsort(files, kind="stable")
    sorted_pages, ends = pages[order], (pages + counts)[order]
    jumps = sorted_pages.copy()
    same = files[order][1:] == files[order][:-1]
    jumps[1:][same] -= ends[:-1][same]
    result = np.empty_like(jumps)
    result[order] = jumps
    return result


# Reading


def _frames(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks in order: HEAD, FILE, any number of EVTS, DONE and nothing after it."""
    place = len(SIGNATURE)
    expected: tuple[bytes, ...] = (b"HEAD",)
    while expected:
        if place + _FRAME.size > len(data):
            raise TraceError(f"cut off at byte {len(data)}: the end is missing")
        tag, length = _FRAME.unpack_from(data, place)
        if tag not in expected:
            raise TraceError(f"damaged at byte {place}: no {expected[0].decode()} there")
        end = place + _FRAME.size + length
        if end + _CRC.size > len(data):
            raise TraceError(f"cut off at byte {len(data)}: {tag.decode()} ends at byte {end}")
        if zlib.crc32(data[place:end]) != _CRC.unpack_from(data, end)[0]:
            raise TraceError(f"damaged: the checksum of {tag.decode()} at byte {place} is wrong")
        yield tag, data[place + _FRAME.size : end]
        place = end + _CRC.size
        expected = _FOLLOWS[tag]
    if place != len(data):
        raise TraceError(f"damaged: {len(data) - place} bytes follow its end")


_FOLLOWS: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"HEAD": (b"FILE",),
    b"FILE": (b"EVTS", b"DONE"),
    b"EVTS": (b"EVTS", b"DONE"),
    b"DONE": (),
}


def _head(chunk: tuple[bytes, bytes]) -> tuple[int, int, int, int, str]:
    payload = chunk[1]
    if len(payload) < _HEAD.size:
        raise TraceError("damaged: HEAD is too short")
    version, flags, length, file_count = _HEAD.unpack_from(payload)
    return version, flags, length, file_count, payload[_HEAD.size :].decode(errors="replace")


def _inflate(payload: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(payload, _INFLATED_MAX)
    except zlib.error as error:
        raise TraceError(f"damaged: {error}") from error
    if not inflater.eof:
        raise TraceError("damaged: a chunk does not inflate to its end")
    return body


def _scalar(body: bytes, place: int) -> tuple[int, int]:
    """Read one LEB128 value; return it and the place behind it."""
    value = shift = 0
    while place < len(body) and shift < 64:
        digit = body[place]
        place += 1
        value |= (digit & 0x7F) << shift
        if digit < 0x80:
            return value, place
        shift += 7
    raise TraceError("damaged: a number does not end")


def _file_table(chunk: tuple[bytes, bytes], count: int) -> tuple[TraceFile, ...]:
    body, place, files = _inflate(chunk[1]), 0, []
    for _ in range(count):
        length, place = _scalar(body, place)
        name = body[place : place + length].decode(errors="replace")
        pages, place = _scalar(body, place + length)
        initial, place = _scalar(body, place)
        if not 0 <= initial <= pages <= PAGE_INDEX_MAX + 1:
            raise TraceError(f"damaged: file {name!r} has {initial} of {pages} pages")
        files.append(TraceFile(name, pages, initial))
    if place != len(body):
        raise TraceError("damaged: the file table has another length")
    return tuple(files)


def _events(payload: bytes, *, with_times: bool) -> list[NDArray[np.int64]]:
    """Return the columns of one EVTS chunk, all as int64."""
    body = _inflate(payload)
    count, place = _scalar(body, 0)
    if not 1 <= count <= CHUNK_EVENTS:
        raise TraceError(f"damaged: a chunk of {count} events")
    columns = []
    for _ in range(_COLUMNS + with_times):
        length, place = _scalar(body, place)
        try:
            columns.append(varint.decode(body[place : place + length], count))
        except ValueError as error:
            raise TraceError(f"damaged: {error}") from error
        place += length
    if place != len(body):
        raise TraceError("damaged: a chunk has another length")
    kinds, processes, files, jumps, counts, extras = columns[:_COLUMNS]
    file_column = np.cumsum(varint.unfold(files))
    run_counts = counts.view(np.int64)
    decoded = [
        kinds.view(np.int64),
        np.cumsum(varint.unfold(processes)),
        file_column,
        _landings(file_column, varint.unfold(jumps), run_counts),
        run_counts,
        np.cumsum(varint.unfold(extras)),
    ]
    return decoded + [np.cumsum(varint.unfold(column)) for column in columns[_COLUMNS:]]


def _landings(
    files: NDArray[np.int64], jumps: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Undo `_jumps`."""
    order = np.argsort(files, kind="stable")
    sorted_files, sorted_counts = files[order], counts[order]
    # Per file: page = sum of the jumps so far + counts of the runs before this one.
    ends = np.cumsum(jumps[order] + sorted_counts)
    first = np.flatnonzero(np.diff(sorted_files, prepend=sorted_files[0] - 1))
    before = ends[first] - (jumps[order] + sorted_counts)[first]
    lengths = np.diff(first, append=len(files))
    result = np.empty_like(jumps)
    result[order] = ends - np.repeat(before, lengths) - sorted_counts
    return result


def _joined(
    files: tuple[TraceFile, ...],
    parts: list[list[NDArray[np.int64]]],
    *,
    with_times: bool,
    origin: str,
) -> Trace:
    width = _COLUMNS + with_times
    empty = np.zeros(0, dtype=np.int64)
    whole = [
        np.concatenate([part[column] for part in parts]) if parts else empty
        for column in range(width)
    ]
    for column, bound in ((0, 0xFF), (1, PAGE_COUNT_MAX), (2, PAGE_COUNT_MAX), (4, PAGE_COUNT_MAX)):
        if len(whole[column]) and not 0 <= whole[column].min() <= whole[column].max() <= bound:
            raise TraceError("damaged: a number is out of its bounds")
    return Trace(
        files=files,
        kinds=whole[0].astype(np.uint8),
        processes=whole[1].astype(np.int32),
        file_column=whole[2].astype(np.int32),
        pages=whole[3],
        counts=whole[4].astype(np.int32),
        extras=whole[5].astype(np.int32),
        times=whole[6] if with_times else None,
        origin=origin,
    )


def _check(trace: Trace) -> None:
    """Refuse events that no replay could follow."""
    if not len(trace):
        return
    if int(trace.kinds.max()) > max(EventKind):
        raise TraceError(f"damaged: an event of unknown kind {int(trace.kinds.max())}")
    of_file = trace.kinds <= EventKind.UNLINK
    of_file &= trace.kinds != EventKind.SYNC
    if of_file.any():
        if int(trace.file_column[of_file].max()) >= len(trace.files):
            raise TraceError("damaged: an event names a file that is not in the table")
        sizes = np.array([file.pages for file in trace.files], dtype=np.int64)
        starts = trace.pages[of_file]
        ends = starts + trace.counts[of_file]
        if (
            (starts < 0).any()
            or (starts > PAGE_INDEX_MAX + 1).any()
            or (ends > sizes[trace.file_column[of_file]]).any()
        ):
            raise TraceError("damaged: an event goes beyond the end of its file")
    runs = trace.kinds <= EventKind.MSYNC
    if runs.any() and int(trace.counts[runs].min()) < 1:
        raise TraceError("damaged: a request of no pages")
    if int(trace.extras.min()) < 0:
        raise TraceError("damaged: a negative area")
