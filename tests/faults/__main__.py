"""Run seeded mixtures of faults: `python -m tests.faults --mixtures 100 --seed 1`.

Exit code 0 if no guest found an integrity error or a violation, else 1. A seed names its mixture.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog
import uvloop

from tests.faults.mixtures import Outcome, run_alone


def _run(seed: int, operations: int, seconds: float) -> tuple[str, Outcome | None]:
    """What to print, and the outcome; None if the mixture came to no end."""

    async def body() -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            return await run_alone(Path(folder), seed, operations, seconds)

    try:
        outcome = uvloop.run(body())
    except Exception as error:  # whatever it is, the mixture that did it is named
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        return f"{type(error).__name__}: {error}", None
    strikes = " ".join(f"{kind}:{count}" for kind, count in sorted(outcome.struck.items()))
    found = f"integrity errors {outcome.integrity_errors}, violations {outcome.violations}"
    return f"{found}; {outcome.told}; {strikes}", outcome


def main() -> int:
    """Run them one after the other, a line each."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--mixtures", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the first (default: 1)")
    parser.add_argument("--operations", type=int, default=800, help="of each guest (default: 800)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for each")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    bad: list[int] = []
    total: Counter[str] = Counter()
    begun = time.monotonic()
    for seed in range(options.seed, options.seed + options.mixtures):
        text, outcome = _run(seed, options.operations, options.timeout)
        good = outcome is not None and outcome.is_clean
        if outcome is not None:
            total += Counter(outcome.struck) + Counter({"reboots": outcome.reboots})
        if not good:
            bad.append(seed)
        print(f"{seed}: {'ok' if good else 'BAD'}: {text}", flush=True)
    told = ", ".join(f"{kind} {count:,}" for kind, count in sorted(total.items()))
    print(f"{options.mixtures} mixtures in {time.monotonic() - begun:.0f} s; strikes: {told}")
    print(f"bad: {bad or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
