"""The text that blkparse prints by default from a Linux blktrace.

A line: `major,minor cpu sequence seconds.nanoseconds pid action RWBS sector + sectors [command]`,
sectors of 512 bytes. One request passes several actions; taken are those of one action alone:
Q (queued) if the file has it, else D (issued), else C (completed), or what `--action` says.
W in RWBS is a write, R a read; discards (D), flushes and lines without `sector + sectors` move
no pages and are left out. The summary at the end (from `CPU0 (...)` or `Total`) is not read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from guest_agent.workload.events import Trace, TraceError
from guest_agent.workload.formats.base import SECTOR_BYTES, Options, Requests, Sample, lines

_EVENT: Final = re.compile(
    r"(\d+,\d+)\s+\d+\s+\d+\s+(\d+)\.(\d{1,9})\s+\d+\s+([A-Za-z]{1,2})\s+([A-Z]+)"
    r"(?:\s+(\d+)\s\+\s(\d+))?(?:\s|$)",
    re.ASCII,
)
_PREAMBLE: Final = "Input file"
_SUMMARY: Final = re.compile(r"(CPU\s*\d+|Total) \(")
_ACTIONS: Final = ("Q", "D", "C")


def is_blkparse(sample: Sample) -> bool:
    """Whether one of the first lines is an event."""
    return any(_EVENT.match(line) for line in sample.first_lines(5))


def read_blkparse(path: Path, options: Options) -> Trace:
    """Read blkparse's text."""
    wanted = (options.action,) if options.action else _ACTIONS
    requests = {action: Requests(options) for action in wanted}
    for place, line in lines(path):
        if _SUMMARY.match(line):
            break
        if line.startswith(_PREAMBLE):
            continue
        event = _EVENT.match(line)
        if event is None:
            raise TraceError(f"{path}: line {place}: not a line of blkparse's default output")
        disk, seconds, fraction, action, rwbs, sector, sectors = event.groups()
        if action not in requests or sector is None or "D" in rwbs or not {"R", "W"} & {*rwbs}:
            continue
        try:
            requests[action].add(
                disk,
                int(sector) * SECTOR_BYTES,
                int(sectors) * SECTOR_BYTES,
                write="W" in rwbs,
                time=int(seconds) * 1_000_000 + int(fraction.ljust(9, "0")) // 1000,
            )
        except ValueError as error:
            raise TraceError(f"{path}: line {place}: {error}") from error
    found = next((taken for taken in requests.values() if len(taken)), None)
    if found is None:
        raise TraceError(f"{path}: no request with action {' or '.join(wanted)}")
    return found.trace(f"blkparse text {path.name}")
