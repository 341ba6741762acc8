"""Faults as choices: what may fail in a run, how often, and what it comes to.

Rules:
- A world without a budget offers no fault, and what it offers is what it always was.
- Faults may happen from when they are allowed: what a scenario has prepared went undisturbed.
"""

from __future__ import annotations

from race_explorer.faults.budget import DOES as DOES
from race_explorer.faults.budget import FaultBudget as FaultBudget
from race_explorer.faults.budget import FaultKind as FaultKind
from race_explorer.faults.source import Faults as Faults
from race_explorer.world import SimWorld


def allow_faults(world: SimWorld, budget: FaultBudget) -> Faults:
    """Let these happen in the world, besides what may already. No effect if it is empty."""
    found = next((source for source in world.sources if isinstance(source, Faults)), None)
    if found is None:
        found = Faults(world)
        if budget.times:
            world.sources.append(found)
    found.allow(budget)
    return found
