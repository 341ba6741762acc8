"""What is run: a scenario under protections, less what was left out of it. A value, and text.

Rules:
- A case and a list of choices are a whole run; everything that finds, saves, shrinks or shows
  one goes through here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from guest_agent.kernel.guards import PRESETS
from race_explorer.faults import FaultBudget, allow_faults
from race_explorer.hunt.composition import COMPOSED, composed, parse
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.scenario import Protections, Scenario, Worlds
from race_explorer.world import SimWorld

FIXED_PRESET: Final = "fixed"
IN_ONE_PROCESS: Final = Worlds()


@dataclass(frozen=True, slots=True)
class Case:
    """scenario: by name. preset: of the guest's guards. without: guards that are off besides.

    dropped: actors that do not take part, by the names that their steps have. workload: of the
    scenario "composed" alone, and then never empty: what it is composed of. faults: what may fail,
    such as "cut=1", besides what the scenario allows by itself; see `FaultBudget`.
    """

    scenario: str
    preset: str = FIXED_PRESET
    without: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    workload: str = ""
    faults: str = ""

    def check(self) -> None:
        """Raise ValueError for a scenario, workload, preset, guard or fault that is none."""
        if self.scenario == COMPOSED:
            parse(self.workload)
        elif self.scenario not in SCENARIOS:
            raise ValueError(f"no scenario is called {self.scenario!r}")
        elif self.workload:
            raise ValueError(f"{self.scenario} has no workload; only {COMPOSED!r} has one")
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; it must be {' or '.join(PRESETS)}")
        FaultBudget.parse(self.faults)
        try:
            self.protections()
        except TypeError as error:
            raise ValueError(str(error)) from None

    @property
    def definition(self) -> Scenario:
        """The scenario."""
        if self.scenario == COMPOSED:
            return composed(parse(self.workload))
        return SCENARIOS[self.scenario]

    def protections(self) -> Protections:
        """All guards as the case has them. Raises TypeError for one that does not exist."""
        return Protections(PRESETS[self.preset]).without(*self.without)

    def build(self, worlds: Worlds = IN_ONE_PROCESS) -> SimWorld:
        """A fresh world, ready for the first step of the race. worlds: what makes it."""
        world = self.definition.build(replace(self.protections(), worlds=worlds))
        world.drop(self.dropped)
        allow_faults(world, FaultBudget.parse(self.faults))
        return world

    def smaller(self) -> Iterator[Case]:
        """The same with one thing less to do, or to fail, for shrinking; big steps first."""
        for budget in FaultBudget.parse(self.faults).smaller():
            yield replace(self, faults=str(budget))
        if self.scenario == COMPOSED:
            for composition in parse(self.workload).smaller():
                yield replace(self, workload=str(composition))
            return
        for name in self.build().actors():
            yield replace(self, dropped=(*self.dropped, name))
