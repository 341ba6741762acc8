"""Beset a host: `python -m tests.hostile --messages 100000 --seed 1`.

Exit code 1 if the host died or met a bug, a call's status was none of its method's, the host's
memory grew by more than GROWTH_MAX after the first tenth of the calls, or a guest saw anything.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.hostile.run import beset


def main() -> int:
    """Parse, run, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=5_000, help="of each honest guest")
    arguments = parser.parse_args()

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        after = beset(Path(folder), arguments.messages, arguments.seed, arguments.operations, tell)
    statuses = {name: dict(counts) for name, counts in sorted(after.told.statuses.items())}
    figures = {
        "calls": after.told.calls,
        "seconds": round(after.seconds, 1),
        "statuses": statuses,
        "resident_bytes": after.resident,
        "honest_operations": after.work,
        "wrong": after.wrong[:50],
    }
    print(json.dumps(figures, indent=2))
    return 1 if after.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
