"""SPC trace files (Storage Performance Council, revision 1.0.1), as the UMass traces are.

Fields: `ASU,LBA,Size,Opcode,Timestamp` and optional ones that are not used: the unit (a disk),
the first block, bytes, `R` or `W` in either case, seconds from the start. The block's size is
not in the file: 512 bytes, as in the UMass traces, unless `--block-bytes` says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from guest_agent.workload.events import Trace, TraceError
from guest_agent.workload.formats.base import (
    SECTOR_BYTES,
    Options,
    Requests,
    Sample,
    lines,
    microseconds,
    number,
)

_FIELDS_MIN: Final = 5
_WRITES: Final = {"r": False, "w": True}


def is_spc(sample: Sample) -> bool:
    """Whether the first line has the five fields."""
    rows = [line.split(",") for line in sample.first_lines(1)]
    return any(
        len(row) >= _FIELDS_MIN
        and all(field.strip().isdecimal() for field in row[:3])
        and row[3].strip().lower() in _WRITES
        for row in rows
    )


def read_spc(path: Path, options: Options) -> Trace:
    """Read an SPC file."""
    block_bytes = options.block_bytes or SECTOR_BYTES
    requests = Requests(options)
    for place, line in lines(path):
        try:
            fields = line.split(",")
            if len(fields) < _FIELDS_MIN:
                raise ValueError(f"{len(fields)} fields, not `ASU,LBA,Size,Opcode,Timestamp`")
            opcode = fields[3].strip().lower()
            if opcode not in _WRITES:
                raise ValueError(f"Opcode is {fields[3].strip()[:40]!r}, not R or W")
            requests.add(
                f"asu-{number(fields[0], 'ASU')}",
                number(fields[1], "LBA") * block_bytes,
                number(fields[2], "Size"),
                write=_WRITES[opcode],
                time=microseconds(fields[4], "Timestamp"),
            )
        except ValueError as error:
            raise TraceError(f"{path}: line {place}: {error}") from error
    return requests.trace(f"SPC trace {path.name}")
