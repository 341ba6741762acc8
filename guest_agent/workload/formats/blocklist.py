"""Plain lists of blocks: the ARC paper's, and the LIRS distribution's.

ARC: four numbers a line, `start count ignored sequence` (the last two may be missing): the
first block, how many, a column of the authors that is not used, the line's number. Blocks
have 512 bytes unless `--block-bytes` says otherwise (the paper's OLTP list counts pages: 4096).
LIRS: one block number a line; blocks are pages unless `--block-bytes` says otherwise; a line
`*` separates parts and is left out. Neither has time or tells reads from writes: all are reads.
"""

from __future__ import annotations

from pathlib import Path

from guest_agent.workload.events import Trace, TraceError
from guest_agent.workload.formats.base import (
    SECTOR_BYTES,
    Options,
    Requests,
    Sample,
    lines,
    number,
)
from shared.arch import PAGE_SIZE


def is_arc(sample: Sample) -> bool:
    """Whether the first lines hold two to four numbers each."""
    rows = [line.split() for line in sample.first_lines(20)]
    return bool(rows) and all(
        2 <= len(row) <= 4 and all(field.isdecimal() for field in row) for row in rows
    )


def is_lirs(sample: Sample) -> bool:
    """Whether the first lines hold one number each."""
    rows = sample.first_lines(20)
    return bool(rows) and rows != ["*"] and all(row.isdecimal() or row == "*" for row in rows)


def read_arc(path: Path, options: Options) -> Trace:
    """Read an ARC list."""
    block_bytes = options.block_bytes or SECTOR_BYTES
    requests = Requests(options)
    for place, line in lines(path):
        try:
            fields = line.split()
            if not 2 <= len(fields) <= 4:
                raise ValueError(f"{len(fields)} fields, not `start count ignored sequence`")
            start, count = number(fields[0], "start"), number(fields[1], "count")
            requests.add("disk", start * block_bytes, count * block_bytes, write=False, time=None)
        except ValueError as error:
            raise TraceError(f"{path}: line {place}: {error}") from error
    return requests.trace(f"ARC list {path.name}")


def read_lirs(path: Path, options: Options) -> Trace:
    """Read a LIRS list."""
    block_bytes = options.block_bytes or PAGE_SIZE
    requests = Requests(options)
    for place, line in lines(path):
        if line == "*":
            continue
        try:
            offset = number(line, "the block") * block_bytes
            requests.add("disk", offset, block_bytes, write=False, time=None)
        except ValueError as error:
            raise TraceError(f"{path}: line {place}: {error}") from error
    return requests.trace(f"LIRS list {path.name}")
