"""What the demonstration's guests replay: the shipped traces, cut into pieces of one place each.

Rules:
- A request is cut where it leaves 64 neighbouring pages of a file, a mapping is read piece by
  piece (written, if it was shared and writable), and processes are not told apart: so that
  requests of all files can be under way on many vCPUs at once.
- Of each trace a window is taken; order and fsync stay. Both runs read the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from guest_agent.workload import tracefile
from guest_agent.workload.events import ACCESS_KINDS, EventKind, Trace
from guest_agent.workload.plan import PLACE_PAGES

FIRST_ACCESS: Final = {"sqlite": 5_900, "compile": 8_000, "search": 900}
"""Where each trace is taken up: its programs have started, and do what they are for."""

_STORES: Final = (EventKind.WRITE, EventKind.MAP_SHARED)


def in_pieces(trace: Trace, first_access: int, access_count: int) -> Trace:
    """The trace's accesses and fsyncs, from one page access on, so many at most."""
    kept = np.isin(trace.kinds, (*ACCESS_KINDS, EventKind.FSYNC))
    kinds, pages, counts = trace.kinds[kept], trace.pages[kept], trace.counts[kept]
    sync = kinds == EventKind.FSYNC
    first = pages // PLACE_PAGES
    piece_counts = np.where(sync, 1, (pages + np.maximum(counts, 1) - 1) // PLACE_PAGES - first + 1)
    row = np.repeat(np.arange(len(pages)), piece_counts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(piece_counts) - piece_counts, piece_counts)
    start = np.maximum(pages[row], (first[row] + number) * PLACE_PAGES)
    stop = np.minimum(pages[row] + counts[row], (first[row] + number + 1) * PLACE_PAGES)
    is_store = np.isin(kinds, _STORES)[row]
    accesses = np.cumsum(np.where(sync[row], 0, stop - start))
    window = np.searchsorted(accesses, (first_access, first_access + access_count), side="right")
    cut = slice(*window.tolist())
    zero = np.zeros(len(row[cut]), dtype=np.int32)
    return Trace(
        files=trace.files,
        kinds=np.where(
            sync[row], EventKind.FSYNC, np.where(is_store, EventKind.WRITE, EventKind.READ)
        )[cut].astype(np.uint8),
        processes=zero,
        file_column=trace.file_column[kept][row][cut],
        pages=np.where(sync[row], 0, start)[cut],
        counts=np.where(sync[row], 0, stop - start)[cut].astype(np.int32),
        extras=zero,
        origin=f"{trace.origin}; in pieces for the demonstration",
    )


def write_window(name: str, access_count: int, path: Path) -> None:
    """Write so many page accesses of a shipped trace, in pieces, to a file."""
    trace = tracefile.load(tracefile.resolve(name))
    tracefile.save(path, in_pieces(trace, FIRST_ACCESS[name], access_count))
