"""`essa races replay --cluster`: replay files on a real host and a real guest.

Rules:
- Each file is run in the explorer first, which must do what the file says it did; the run on the
  cluster is held against that, step by step.
- What could not be enforced is inconclusive: neither "holds" nor "violated" is said of it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from essa_cli.gate.processes import Cluster
from essa_cli.gate.race import INCONCLUSIVE, Enforced
from race_explorer.replays.policies import Outcome
from race_explorer.replays.replay import Replay
from shared.rpc.channel import Address

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

TIMEOUT_SECONDS: Final = 10.0
DIFFERS: Final = 1
UNKNOWN: Final = 3

Explored = Callable[[str], tuple[Replay, Outcome]]
"""A file as a replay, and what the explorer makes of it."""


def replay_on_cluster(
    files: Sequence[str],
    explored: Explored,
    *,
    timeout_seconds: float,
    listen: Address | None,
    tls: Tls | None,
    as_json: bool,
) -> int:
    """Enforce every file's schedule; returns the exit code."""
    runs = [(name, *explored(name)) for name in files]
    rows: list[dict[str, Any]] = []
    found: list[Enforced] = []
    with Cluster(timeout_seconds, listen, tls) as cluster:
        for name, replay, outcome in runs:
            enforced = cluster.enforce(replay, outcome.recording)
            if outcome.divergence is not None and not enforced.difference:
                text = f"the file says otherwise: {outcome.divergence.describe()}"
                enforced = dataclasses.replace(enforced, difference=text)
            found.append(enforced)
            rows.append(_row(name, enforced))
            if not as_json:
                print(_line(name, enforced), flush=True)
    if as_json:
        print(json.dumps(rows))
    elif len(files) > 1:
        print(f"{sum(run.agrees for run in found)} of {len(found)} as in the explorer")
    if any(run.difference for run in found):
        return DIFFERS
    return UNKNOWN if any(run.verdict == INCONCLUSIVE for run in found) else 0


def _row(name: str, enforced: Enforced) -> dict[str, Any]:
    return {
        "file": name,
        "verdict": enforced.verdict,
        "agrees": enforced.agrees,
        "steps": [list(step) for step in enforced.steps],
        "violation": enforced.violation,
        "difference": enforced.difference or None,
        "reason": enforced.reason or None,
    }


def _line(name: str, enforced: Enforced) -> str:
    if enforced.verdict == INCONCLUSIVE:
        return f"{INCONCLUSIVE}: {name}: {enforced.reason}"
    steps = f"{len(enforced.steps)} steps"
    how = f"{steps} as in the explorer" if enforced.agrees else "NOT AS IT SHOULD BE"
    end = f": {enforced.violation}" if enforced.violation else ""
    text = f"{enforced.verdict} on the cluster, {how}: {name}{end}"
    return text if enforced.agrees else f"{text}\n{enforced.difference}"
