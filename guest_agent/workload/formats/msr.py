"""MSR Cambridge block traces (Narayanan, Donnelly, Rowstron, FAST 2008), as CSV.

Fields: `Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime`: Windows filetime (100 ns
since 1601), host, disk, `Read` or `Write`, first byte, bytes, and a duration that is not used.
A disk is named `Hostname_DiskNumber`, as the published files are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from guest_agent.workload.events import Trace, TraceError
from guest_agent.workload.formats.base import Options, Requests, Sample, lines, number

_TICKS_PER_MICROSECOND: Final = 10
_WRITES: Final = {"read": False, "write": True}


def is_msr(sample: Sample) -> bool:
    """Whether the first line, or the one after a header, has the seven fields."""
    rows = [line.split(",") for line in sample.first_lines(2)]
    return any(len(row) == 7 and row[3].strip().lower() in _WRITES for row in rows)


def read_msr(path: Path, options: Options) -> Trace:
    """Read an MSR Cambridge file."""
    requests = Requests(options)
    for place, line in lines(path):
        if place == 1 and line.lower().startswith("timestamp,"):
            continue
        try:
            fields = line.split(",")
            if len(fields) != 7:
                raise ValueError(f"{len(fields)} fields, not the 7 of an MSR Cambridge trace")
            kind = fields[3].strip().lower()
            if kind not in _WRITES:
                raise ValueError(f"Type is {fields[3].strip()[:40]!r}, not Read or Write")
            requests.add(
                f"{fields[1].strip()}_{number(fields[2], 'DiskNumber')}",
                number(fields[4], "Offset"),
                number(fields[5], "Size"),
                write=_WRITES[kind],
                time=number(fields[0], "Timestamp") // _TICKS_PER_MICROSECOND,
            )
        except ValueError as error:
            raise TraceError(f"{path}: line {place}: {error}") from error
    return requests.trace(f"MSR Cambridge trace {path.name}")
