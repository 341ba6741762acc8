"""Traces in the formats of others, known by their content.

Adding a format is one module with a `matches` and a `read`, and one line in FORMATS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guest_agent.workload import tracefile
from guest_agent.workload.events import Trace, TraceError
from guest_agent.workload.formats import blkparse, blocklist, cachesim, msr, npz, spc
from guest_agent.workload.formats.base import Options, Sample, sample


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of file is recognised and read."""

    title: str
    matches: Callable[[Sample], bool]
    read: Callable[[Path, Options], Trace]


def _is_essa(sample: Sample) -> bool:
    return sample.head.startswith(tracefile.SIGNATURE) or (
        sample.complete and len(sample.head) > 0 and tracefile.SIGNATURE.startswith(sample.head)
    )


FORMATS: Final[dict[str, Format]] = {
    "essa": Format("this project's own", _is_essa, lambda path, _: tracefile.load(path)),
    "npz": Format("arrays page, npages, op, disk, t", npz.is_npz, npz.read_npz),
    "blkparse": Format("blkparse text", blkparse.is_blkparse, blkparse.read_blkparse),
    "msr": Format("MSR Cambridge CSV", msr.is_msr, msr.read_msr),
    "spc": Format("SPC, UMass", spc.is_spc, spc.read_spc),
    "csv": Format("libCacheSim CSV, CloudPhysics", cachesim.is_csv, cachesim.read_csv),
    "arc": Format("block list `start count ...`", blocklist.is_arc, blocklist.read_arc),
    "lirs": Format("block list, one a line", blocklist.is_lirs, blocklist.read_lirs),
    "oracle-general": Format("libCacheSim oracleGeneral", cachesim.is_oracle, cachesim.read_oracle),
}
"""In the order in which they are tried: the most particular first."""

DEFAULTS: Final = Options()


def detect(path: Path) -> str:
    """Return the name of the format of a file.

    Raises:
        TraceError: it is empty, cannot be read, or is of no known format.
    """
    beginning = sample(path)
    if not beginning.head:
        raise TraceError(f"{path}: is empty")
    for name, candidate in FORMATS.items():
        if candidate.matches(beginning):
            return name
    raise TraceError(f"{path}: no known trace format ({', '.join(FORMATS)}); try --format")


def read_trace(path: Path, format_name: str = "auto", options: Options = DEFAULTS) -> Trace:
    """Read a trace of any format.

    Raises:
        TraceError: as `detect`, or it is malformed; the text names line or record.
    """
    if format_name == "auto":
        format_name = detect(path)
    trace = FORMATS[format_name].read(path, options)
    if not len(trace):
        raise TraceError(f"{path}: holds no request")
    return trace
