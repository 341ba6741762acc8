"""Beset a host: `python -m tests.hostile --messages 100000 --seed 1`.

Exit code 1 if the host died or met a bug, a call got no clear status, an honest guest saw anything,
or the host's memory grew by more than GROWTH_MAX after the first tenth of the calls.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.hostile.run import beset

GROWTH_MAX = 32 << 20


def main() -> int:
    """Parse, run, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=60_000, help="of each honest guest")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        after = beset(Path(folder), arguments.messages, arguments.seed, arguments.operations)
    wrong, (before, end) = after.wrong(), after.resident
    if end - before > GROWTH_MAX:
        wrong.append(f"memory grew from {before} to {end} bytes")
    statuses = {name: dict(counts) for name, counts in sorted(after.told.statuses.items())}
    figures = {"calls": after.told.calls, "statuses": statuses, "resident_bytes": [before, end]}
    print(json.dumps({**figures, "wrong": wrong[:50]}, indent=2))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
