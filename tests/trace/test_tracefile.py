"""The file format: what is saved comes back, and no damaged file does.

Method: random traces with every kind of event, and one small file cut at every byte and
with every byte changed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest_agent.workload import tracefile, varint
from guest_agent.workload.events import (
    EventKind,
    Exit,
    Fork,
    Map,
    Read,
    Touch,
    Trace,
    TraceError,
    TraceFile,
    Truncate,
    Unmap,
    Write,
    block_trace,
    map_touches,
)

Rows = list[tuple[int, int, int, int, int, int]]


def make_trace(rows: Rows, files: tuple[TraceFile, ...], times: list[int] | None = None) -> Trace:
    table = np.array(rows, dtype=np.int64).reshape(-1, 6)
    return Trace(
        files=files,
        kinds=table[:, 0].astype(np.uint8),
        processes=table[:, 1].astype(np.int32),
        file_column=table[:, 2].astype(np.int32),
        pages=table[:, 3],
        counts=table[:, 4].astype(np.int32),
        extras=table[:, 5].astype(np.int32),
        times=None if times is None else np.array(times, dtype=np.int64),
        origin="made up",
    )


FILES = (TraceFile("ä/b", 1 << 40, 7), TraceFile("b", 50, 0))
ROWS: Rows = [
    (EventKind.WRITE, 0, 1, 0, 50, 0),
    (EventKind.FORK, 0, 0, 0, 0, 1),
    (EventKind.MAP_SHARED, 1, 0, (1 << 40) - 4, 4, 3),
    (EventKind.UNMAP, 1, 0, (1 << 40) - 4, 4, 3),
    (EventKind.TRUNCATE, 0, 1, 2, 0, 0),
    (EventKind.READ, 0, 1, 1, 1, 0),
    (EventKind.SYNC, 0, 0, 0, 0, 0),
    (EventKind.EXIT, 1, 0, 0, 0, 0),
]


def assert_same(left: Trace, right: Trace) -> None:
    assert left.files == right.files
    assert left.origin == right.origin
    assert list(left.events()) == list(right.events())
    assert (left.times is None) == (right.times is None)
    if left.times is not None and right.times is not None:
        assert left.times.tolist() == right.times.tolist()


def packed(trace: Trace, folder: Path) -> bytes:
    path = folder / "t.essa-trace"
    tracefile.save(path, trace)
    assert list(folder.iterdir()) == [path]
    return path.read_bytes()


@given(st.lists(st.integers(0, (1 << 64) - 1)))
def test_varint_gives_back_what_it_took(values: list[int]) -> None:
    array = np.array(values, dtype=np.uint64)
    assert varint.decode(varint.encode(array), len(values)).tolist() == values
    signed = array.view(np.int64)
    assert varint.unfold(varint.fold(signed)).tolist() == signed.tolist()


def test_varint_is_leb128() -> None:
    values = np.array([0, 127, 128, 624485], dtype=np.uint64)
    assert varint.encode(values) == bytes([0, 127, 0x80, 1, 0xE5, 0x8E, 0x26])


@pytest.mark.parametrize("data", [b"\x80", b"\x01\x02", b"", b"\x80" * 10 + b"\x01"])
def test_varint_refuses_what_is_not_one_value(data: bytes) -> None:
    with pytest.raises(ValueError):
        varint.decode(data, 1)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    sizes = draw(st.lists(st.integers(1, 1 << 45), min_size=1, max_size=4))
    rows: Rows = []
    for _ in range(draw(st.integers(0, 40))):
        file = draw(st.integers(0, len(sizes) - 1))
        page = draw(st.integers(0, sizes[file] - 1))
        count = draw(st.integers(1, min(sizes[file] - page, 1 << 20)))
        kind = draw(st.sampled_from(list(EventKind)))
        number = draw(st.integers(0, (1 << 31) - 1))
        rows.append((kind, draw(st.integers(0, 9)), file, page, count, number))
    times = draw(st.none() | st.lists(st.integers(), min_size=len(rows), max_size=len(rows)))
    if times is not None:
        times = [time % (1 << 60) for time in times]
    files = tuple(TraceFile(f"file {n}", size, size // 2) for n, size in enumerate(sizes))
    return make_trace(rows, files, times)


@settings(deadline=None)
@given(trace=traces())
def test_a_trace_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, trace: Trace
) -> None:
    folder = tmp_path_factory.mktemp("trace")
    assert_same(tracefile.loads(packed(trace, folder)), trace)


def test_several_chunks_join(tmp_path: Path) -> None:
    count = tracefile.CHUNK_EVENTS * 2 + 17
    pages = np.arange(count, dtype=np.int64) * 7 % 1000
    trace = block_trace(
        disks=(TraceFile("d", 1001, 1001),), disk_column=None, pages=pages, counts=1, writes=None
    )
    data = packed(trace, tmp_path)
    assert_same(tracefile.loads(data), trace)
    # A file that ends between two chunks has only whole ones, and is cut off all the same.
    last = data.rindex(b"EVTS")
    with pytest.raises(TraceError, match="cut off"):
        tracefile.loads(data[:last])
    without_one = data[: data.index(b"EVTS")] + data[last:]
    with pytest.raises(TraceError, match="do not add up"):
        tracefile.loads(without_one)


def test_events_are_values() -> None:
    events = list(make_trace(ROWS, FILES).events())
    assert events[0] == Write(process=0, file=1, page=0, count=50)
    assert events[1] == Fork(process=0, child=1)
    assert events[2] == Map(1, area=3, file=0, page=(1 << 40) - 4, count=4, writable=True)
    assert events[3] == Unmap(1, 3, 0, (1 << 40) - 4, 4, last=True)
    assert events[4] == Truncate(process=0, file=1, page_count=2)
    assert events[7] == Exit(process=1)
    assert list(make_trace(ROWS, FILES).events(5, 6)) == [Read(0, 1, 1, 1)]


@pytest.mark.parametrize("writable", [False, True])
def test_a_mapping_is_touched_once_a_page(writable: bool) -> None:
    touches = list(map_touches(Map(0, 0, 0, page=5, count=3, writable=writable)))
    assert touches == [Touch(5, writable), Touch(6, writable), Touch(7, writable)]


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = packed(make_trace(ROWS, FILES, list(range(8))), tmp_path)
    for length in range(len(data)):
        with pytest.raises(TraceError, match=r"cut off|not an ESSA trace"):
            tracefile.loads(data[:length])
    with pytest.raises(TraceError, match="follow its end"):
        tracefile.loads(data + b"\0")


def test_a_file_changed_anywhere_is_refused(tmp_path: Path) -> None:
    data = packed(make_trace(ROWS, FILES, list(range(8))), tmp_path)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x41
        with pytest.raises(TraceError):
            tracefile.loads(bytes(changed))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((99, 0, 0, 0, 1, 0), "unknown kind"),
        ((EventKind.READ, 0, 2, 0, 1, 0), "not in the table"),
        ((EventKind.READ, 0, 1, 49, 2, 0), "beyond the end"),
        ((EventKind.READ, 0, 1, -1, 1, 0), "beyond the end"),
        ((EventKind.READ, 0, 1, 0, 0, 0), "no pages"),
        ((EventKind.MAP, 0, 1, 0, 1, -1), "negative area"),
        ((EventKind.READ, -1, 1, 0, 1, 0), "out of its bounds"),
    ],
)
def test_events_that_nobody_could_follow_are_refused(
    row: tuple[int, int, int, int, int, int], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(TraceError, match=reason):
        tracefile.loads(packed(make_trace([*ROWS, row], FILES), tmp_path))


def test_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefile, "VERSION", 2)
    data = packed(make_trace(ROWS, FILES), tmp_path)
    monkeypatch.undo()
    with pytest.raises(TraceError, match="version 2"):
        tracefile.loads(data)


def test_shipped_traces_load_and_are_small() -> None:
    shipped = tracefile.shipped()
    assert set(shipped) == {"compile", "search", "sqlite"}
    assert sum(path.stat().st_size for path in shipped.values()) < 2_000_000
    for name, path in shipped.items():
        assert tracefile.resolve(name) == path
        trace = tracefile.load(path)
        assert len(trace) > 1000
        assert not any(file.name.startswith("/") for file in trace.files)


@pytest.mark.parametrize("name", ["compile", "search", "sqlite"])
def test_shipped_traces_can_be_followed(name: str) -> None:
    """Sizes, areas and processes fit together at every event."""
    trace = tracefile.load(tracefile.resolve(name))
    sizes = [file.initial_pages for file in trace.files]
    gone: set[int] = set()
    areas: dict[int, dict[int, int]] = {0: {}}
    for event in trace.events():
        assert event.process in areas
        assert getattr(event, "file", -1) not in gone
        match event:
            case Read():
                assert event.page + event.count <= sizes[event.file]
            case Write():
                sizes[event.file] = max(sizes[event.file], event.page + event.count)
            case Truncate():
                sizes[event.file] = event.page_count
            case Map():
                assert event.page + event.count <= sizes[event.file]
                areas[event.process][event.area] = event.count
            case Unmap():
                areas[event.process][event.area] -= event.count
                assert event.last == (areas[event.process][event.area] == 0)
            case Fork():
                areas[event.child] = dict(areas[event.process])
            case Exit():
                del areas[event.process]
            case _ if type(event).__name__ == "Unlink":
                gone.add(event.file)  # type: ignore[union-attr]
            case _ if type(event).__name__ == "Exec":
                areas[event.process] = {}
    assert all(size <= file.pages for size, file in zip(sizes, trace.files, strict=True))


def test_resolve_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"neither a file nor a shipped trace .*sqlite"):
        tracefile.resolve("nothing-of-this-name")
    with pytest.raises(TraceError, match="directory"):
        tracefile.resolve(str(tmp_path))
    with pytest.raises(TraceError, match="No such file"):
        tracefile.load(tmp_path / "missing")
    with pytest.raises(TraceError, match="No such file"):
        tracefile.save(tmp_path / "missing" / "t", make_trace(ROWS, FILES))
