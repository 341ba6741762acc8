"""The importers: small samples of every format, as their publishers write them.

Method: each sample is found by its content alone, its pages are compared with a list worked
out by hand, and for each format a few broken lines must be named by their number.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest_agent.workload import formats, tracefile
from guest_agent.workload.events import Read, Trace, TraceError, Write
from guest_agent.workload.formats import Options, detect, read_trace

MSR = """\
128166372003061629,hm,0,Read,383496704,32768,41286
128166372016382155,hm,1,Write,4095,2,2000
128166372016382165,hm,0,Write,2822144,0,1
128166372026382245,hm,0,Write,0,4096,963
"""
SPC = """\
0,303567,3584,w,0.000000
1,55590,3072,W,0.000000
0,303574,3584,r,0.026214,optional,fields
"""
BLKPARSE = """\
  8,0    3        1     0.000000000   697  G   W 223490 + 8 [kjournald]
  8,0    3        2     0.000001829   697  P   R [kjournald]
  8,0    3        3     0.000002197   697  Q   W 223488 + 16 [kjournald]
  8,16   3        4     0.000005533   697  Q  RA 7 + 2 [cat (x)]
  8,0    3        5     0.000006000     0  Q   D 8 + 2048 [fstrim]
  8,0    3        6     0.000006500     0  Q FWS [jbd2]
  8,0    3        7     1.500007000   697  D   W 223488 + 16 [kjournald]
  8,0    3        8     1.500009000     0  C   W 223488 + 16 [0]

CPU3 (8,0):
 Reads Queued:           1,        1KiB\t Writes Queued:           1,        8KiB
Total (8,0):
 Reads Queued:           1,        1KiB\t Writes Queued:           1,        8KiB
"""
CLOUDPHYSICS = """\
version,time,op,size,lbn
1,33898,2a,512,42932745
1,33898,28,8192,15
1,33900,2a,4096,16
"""
ARC = "0 8 0 1\n8 16 0 2\n100 1 0 3\n"
LIRS = "3\n1\n*\n3\n"


def written(folder: Path, content: str | bytes, name: str = "sample") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def requests(trace: Trace) -> list[tuple[str, str, int, int]]:
    """List (r or w, disk, first page, pages)."""
    rows = []
    for event in trace.events():
        assert isinstance(event, Read | Write)
        kind = "w" if isinstance(event, Write) else "r"
        rows.append((kind, trace.files[event.file].name, event.page, event.count))
    return rows


def times(trace: Trace) -> list[int] | None:
    return None if trace.times is None else trace.times.tolist()


def test_msr(tmp_path: Path) -> None:
    path = written(tmp_path, MSR)
    assert detect(path) == "msr"
    trace = read_trace(path)
    assert requests(trace) == [
        ("r", "hm_0", 93627, 9),  # from the middle of a page: nine pages
        ("w", "hm_1", 0, 2),  # two bytes over a page's end
        ("w", "hm_0", 0, 1),
    ]
    assert times(trace) == [0, 1332053, 2332062]
    assert [(file.name, file.pages) for file in trace.files] == [("hm_0", 93636), ("hm_1", 2)]
    header = "Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime\n"
    path = written(tmp_path, header + MSR)
    assert detect(path) == "msr"
    assert requests(read_trace(path)) == requests(trace)


def test_spc(tmp_path: Path) -> None:
    path = written(tmp_path, SPC)
    assert detect(path) == "spc"
    trace = read_trace(path)
    assert requests(trace) == [
        ("w", "asu-0", 37945, 2),  # sector 303567 is the last of its page
        ("w", "asu-1", 6948, 2),
        ("r", "asu-0", 37946, 2),
    ]
    assert times(trace) == [0, 0, 26214]
    pages = read_trace(path, "spc", Options(block_bytes=4096))
    assert requests(pages)[0] == ("w", "asu-0", 303567, 1)


def test_blkparse(tmp_path: Path) -> None:
    path = written(tmp_path, BLKPARSE)
    assert detect(path) == "blkparse"
    trace = read_trace(path)
    assert requests(trace) == [("w", "8,0", 27936, 2), ("r", "8,16", 0, 2)]
    assert times(trace) == [0, 3]
    issued = read_trace(path, "blkparse", Options(action="D"))
    assert requests(issued) == [("w", "8,0", 27936, 2)]
    with pytest.raises(TraceError, match="no request with action X"):
        read_trace(path, "blkparse", Options(action="X"))


def test_cloudphysics_csv(tmp_path: Path) -> None:
    path = written(tmp_path, CLOUDPHYSICS)
    assert detect(path) == "csv"
    trace = read_trace(path)
    assert requests(trace) == [
        ("w", "disk", 5366593, 1),
        ("r", "disk", 1, 3),
        ("w", "disk", 2, 1),
    ]
    assert times(trace) == [0, 0, 2_000_000]
    shifted = read_trace(path, options=Options(sector_shift=1))
    assert requests(shifted)[1:] == [("r", "disk", 2, 2), ("w", "disk", 2, 2)]


def test_libcachesim_csv_of_named_objects(tmp_path: Path) -> None:
    path = written(tmp_path, "time,object,size\n0,a,4096\n1,b,10000\n2,a,1\n3.5,c,0\n4,b,5000\n")
    assert detect(path) == "csv"
    trace = read_trace(path)
    assert requests(trace) == [
        ("r", "objects", 0, 1),
        ("r", "objects", 1, 3),
        ("r", "objects", 0, 1),
        ("r", "objects", 1, 2),
    ]
    assert times(trace) == [0, 1_000_000, 2_000_000, 4_000_000]


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("7,100,8192\n8,100,1\n9,200,4096\n", None),
        (
            "x|4096|7|100|8192\nx|4096|8|100|1\nx|4096|9|200|4096\n",
            "time-col=3, obj-id-col=4, obj-size-col=5, obj-id-is-num=true, delimiter=|",
        ),
        (
            "a,b,c\n7,100,8192\n8,100,1\n9,200,4096\n",
            "time-col=1, obj-id-col=2, obj-size-col=3, delimiter=,, has-header=true",
        ),
    ],
)
def test_csv_columns_by_number(content: str, columns: str | None, tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, content), "csv", Options(columns=columns))
    assert [row[2:] for row in requests(trace)] == [(0, 2), (0, 1), (2, 1)]
    assert times(trace) == [0, 1_000_000, 2_000_000]


def oracle(*records: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<IQIq", *record) for record in records)


def test_oracle_general(tmp_path: Path) -> None:
    data = oracle((10, 2**63 + 5, 4096, 2), (11, 40, 9000, -1), (13, 2**63 + 5, 512, -1))
    path = written(tmp_path, data)
    assert detect(path) == "oracle-general"
    trace = read_trace(path)
    assert requests(trace) == [
        ("r", "objects", 0, 1),
        ("r", "objects", 1, 3),
        ("r", "objects", 0, 1),
    ]
    assert times(trace) == [0, 1_000_000, 3_000_000]
    placed = written(
        tmp_path, oracle((0, 15, 1024, -1), (0, 3, 0, -1), (0, 16, 4096, -1)), "placed"
    )
    assert requests(read_trace(placed, options=Options(id_unit="sector"))) == [
        ("r", "disk", 1, 2),
        ("r", "disk", 2, 1),
    ]
    with pytest.raises(TraceError, match="record 1: the id is no sector"):
        read_trace(path, options=Options(id_unit="sector"))


def test_arc_list(tmp_path: Path) -> None:
    path = written(tmp_path, ARC)
    assert detect(path) == "arc"
    trace = read_trace(path)
    assert requests(trace) == [("r", "disk", 0, 1), ("r", "disk", 1, 2), ("r", "disk", 12, 1)]
    assert trace.times is None
    pages = read_trace(path, options=Options(block_bytes=4096))
    assert [row[2:] for row in requests(pages)] == [(0, 8), (8, 16), (100, 1)]
    shifted = read_trace(path, options=Options(sector_shift=5))
    assert [row[2:] for row in requests(shifted)] == [(0, 2), (1, 3), (13, 1)]


def test_lirs_list(tmp_path: Path) -> None:
    path = written(tmp_path, LIRS)
    assert detect(path) == "lirs"
    assert [row[2:] for row in requests(read_trace(path))] == [(3, 1), (1, 1), (3, 1)]
    wide = read_trace(path, options=Options(block_bytes=16384))
    assert [row[2:] for row in requests(wide)] == [(12, 4), (4, 4), (12, 4)]


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(
        path,
        page=np.array([5, 0], dtype=np.uint32),
        npages=np.array([2, 3], dtype=np.uint16),
        op=np.array([1, 0], dtype=np.uint8),
        disk=np.array([3, 0], dtype=np.uint8),
        t=np.array([0, 70], dtype=np.int64),
        meta=np.frombuffer(b'{"name": "t", "source": "here"}', dtype=np.uint8),
        epoch=np.array([0, 1]),
    )
    assert detect(path) == "npz"
    trace = read_trace(path)
    assert requests(trace) == [("w", "disk-3", 5, 2), ("r", "disk-0", 0, 3)]
    assert times(trace) == [0, 70]
    assert trace.origin == "t (here)"


def test_arrays_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, page=np.array([5, 0], dtype=np.uint32), npages=np.array([4], dtype=np.uint16))
    trace = read_trace(path)
    assert requests(trace) == [("r", "disk-0", 5, 4), ("r", "disk-0", 0, 4)]
    assert trace.times is None


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"npages": [1]}, "has no array `page`"),
        ({"page": [1, 2], "op": [0]}, "array `op` has 1 entries, `page` has 2"),
        ({"page": [1, 2], "op": [0, 2]}, "record 2: op is 2"),
        ({"page": [1, 2], "npages": [1, 0]}, "record 2: npages is 0"),
        ({"page": [1.5]}, "not a list of integers"),
        ({"page": [[1]]}, "not a list of integers"),
        ({"page": [1, -1]}, "record 2: page is -1"),
        ({"page": []}, "not a list of integers"),
    ],
)
def test_broken_arrays(arrays: dict[str, list[int]], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, **{name: np.array(values) for name, values in arrays.items()})
    with pytest.raises(TraceError, match=reason):
        read_trace(path)


def test_arrays_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, page=np.arange(1000))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(TraceError, match="damaged or not an arrays file"):
        read_trace(path)


@pytest.mark.parametrize(
    ("format_name", "content", "reason"),
    [
        ("msr", "1,hm,0,Read,0,512\n", "line 1: 6 fields"),
        ("msr", "1,hm,0,Read,0,512,1\n\n1,hm,0,Peek,0,512,1\n", "line 3: Type is 'Peek'"),
        ("msr", "1,hm,0,Read,-1,512,1\n", "line 1: Offset is '-1', not a number"),
        ("msr", "1,hm,0,Read,0,5_12,1\n", "line 1: Size is '5_12'"),
        ("msr", f"1,hm,0,Read,{2**70},512,1\n", "line 1: .* more than a disk can hold"),
        ("spc", "0,1,512,w,0\n0,1,512\n", "line 2: 3 fields"),
        ("spc", "0,1,512,x,0\n", "line 1: Opcode is 'x'"),
        ("spc", "0,1,512,w,soon\n", "line 1: Timestamp is 'soon'"),
        ("spc", "0,1,512,w,nan\n", "line 1: Timestamp is 'nan'"),
        ("blkparse", BLKPARSE.replace("697  Q   W", "697  Q   +"), "line 3: not a line"),
        ("blkparse", "8,0 3 2 0.000001829 697 P N [k]\n", "no request with action Q or D or C"),
        ("csv", "time,size\n1,2\n", "line 1: no column holds the object id"),
        ("csv", "time,id,size\n1,2\n", "line 2: only 2 columns"),
        ("csv", "time,id,size\n1,2,x\n", "line 2: size is 'x'"),
        ("csv", "op,lba,size\nflush,2,1\n", "line 2: op is 'flush'"),
        ("csv", "lba,size\nx,1\n", "line 2: id is 'x'"),
        ("csv", f"time,id,size\n1,2,{2**70}\n", "line 2: size is .* more than an object"),
        ("arc", "1 2 3 4\n1\n", "line 2: 1 fields"),
        ("arc", "1 2 3 4\n1 b\n", "line 2: count is 'b'"),
        ("arc", f"1 {2**45} 3 4\n", "line 1: .* more than a disk can hold"),
        ("lirs", "1\n2 3\n", "line 2: the block is '2 3'"),
        ("lirs", "*\n", "holds no request"),
        ("oracle-general", "x" * 25, "record 2 is cut off: 1 of 24 bytes"),
        ("npz", "nothing", "damaged or not an arrays file"),
        ("essa", "nothing", "not an ESSA trace"),
    ],
)
def test_malformed_input_is_named(
    format_name: str, content: str, reason: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(TraceError, match=reason) as caught:
        read_trace(path, format_name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_shift_before_the_disk_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ARC)
    with pytest.raises(TraceError, match="line 1"):
        read_trace(path, options=Options(sector_shift=-1))


@pytest.mark.parametrize("columns", ["obj-id=5", "obj-id-col", "obj-id-col=x", "obj-id-col=0"])
def test_broken_column_options(columns: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="line 1"):
        read_trace(written(tmp_path, "1,2,3\n"), "csv", Options(columns=columns))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_are_unpacked(pack: object, tmp_path: Path) -> None:
    assert callable(pack)
    packed = pack(MSR.encode())
    assert len(read_trace(written(tmp_path, packed))) == 3
    cut = written(tmp_path, packed[:-12], "cut")
    with pytest.raises(TraceError, match="cut"):
        read_trace(cut, "msr")


def test_what_no_format_knows(tmp_path: Path) -> None:
    for content, reason in (
        (b"", "is empty"),
        (b"Dear reader,\nthis is no trace.\n", "no known trace format"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (bytes(range(256)) * 3, "no known trace format"),
    ):
        with pytest.raises(TraceError, match=reason):
            detect(written(tmp_path, content))
    with pytest.raises(TraceError, match="No such file"):
        detect(tmp_path / "missing")


def test_every_format_is_found_by_content() -> None:
    assert set(formats.FORMATS) == {
        *("essa", "npz", "blkparse", "msr", "spc", "csv", "arc", "lirs", "oracle-general")
    }
    assert detect(tracefile.resolve("search")) == "essa"


def test_an_import_keeps_everything(tmp_path: Path) -> None:
    for content in (MSR, SPC, BLKPARSE, CLOUDPHYSICS, ARC, LIRS):
        trace = read_trace(written(tmp_path, content))
        target = tmp_path / "out.essa-trace"
        tracefile.save(target, trace)
        again = read_trace(target)
        assert requests(again) == requests(trace)
        assert times(again) == times(trace)
        assert again.files == trace.files


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, page=np.arange(3), op=np.array([0, 1, 0]), npages=np.array([2]))
    return buffer.getvalue()


SAMPLES = {
    "npz": arrays(),
    "msr": MSR.encode(),
    "spc": SPC.encode(),
    "blkparse": BLKPARSE.encode(),
    "csv": CLOUDPHYSICS.encode(),
    "arc": ARC.encode(),
    "lirs": LIRS.encode(),
    "oracle-general": oracle((10, 5, 4096, 2), (11, 40, 9000, -1)),
    "essa": tracefile.resolve("search").read_bytes()[:600],
}


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    other=st.sampled_from(["auto", *sorted(formats.FORMATS)]),
    place=st.integers(0, 1200),
    put=st.binary(max_size=12)
    | st.sampled_from([b"-", b"9" * 30, b"nan", b",,", b"\xff", b"1e400", b"\xfd7zXZ\0"]),
    cut=st.integers(0, 8),
    options=st.sampled_from([Options(), Options(id_unit="sector"), Options(sector_shift=-9)]),
)
def test_broken_input_is_never_more_than_a_trace_error(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    other: str,
    place: int,
    put: bytes,
    cut: int,
    options: Options,
) -> None:
    data = SAMPLES[name]
    place %= len(data)
    path = tmp_path_factory.getbasetemp() / "broken"
    path.write_bytes(data[:place] + put + data[place + cut :])
    try:
        trace = read_trace(path, other, options)
    except TraceError as error:
        told = str(error)
    else:
        told = ""
        assert len(requests(trace)) == len(trace) > 0
    assert "\n" not in told
