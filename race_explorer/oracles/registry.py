"""Every oracle by name, in the order in which they are asked.

Rules:
- Adding an oracle is adding a module, and its name here. Who says which always run chooses by
  what they cost; a test sees to it that none raises a false alarm.
"""

from __future__ import annotations

from typing import Final

from race_explorer.oracles.holders import HOLDERS
from race_explorer.oracles.kernel_invariants import KERNEL
from race_explorer.oracles.leftovers import LEFTOVERS
from race_explorer.oracles.linearizability import LINEARIZABILITY
from race_explorer.oracles.oracle import Oracle
from race_explorer.oracles.ownership import OWNERSHIP
from race_explorer.oracles.progress import PROGRESS
from race_explorer.oracles.transitions import TRANSITIONS

ORACLES: Final[dict[str, Oracle]] = {
    oracle.name: oracle
    for oracle in (
        LINEARIZABILITY,
        TRANSITIONS,
        OWNERSHIP,
        HOLDERS,
        KERNEL,
        PROGRESS,
        LEFTOVERS,
    )
}
ALL: Final = tuple(ORACLES.values())
