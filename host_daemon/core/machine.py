"""The host's whole state in one place; the modules beside this one work on it.

Rules:
- Plain data and small accessors only. What an ESSA, an access or a stage does to it is
  decided in essa.py, access.py, reclaim.py, transit.py, release.py and faults.py.
- Dictionaries keep insertion order and nothing iterates a set, so that equal inputs give
  equal effects in equal order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from host_daemon.core.config import Choices, HostConfig
from host_daemon.core.effects import Effect, Stage
from host_daemon.core.frames import FrameTable
from host_daemon.core.guest import Guest, Parked, Statistics, Transfer
from host_daemon.core.policies import ReclaimPolicy, make_policy
from host_daemon.core.pools import SlotTable


@dataclass(slots=True)
class Machine:
    """Everything the host knows.

    pending: stages that could run now, but for RESUME and CHOOSE_VICTIM, which depend on
      more than one page and are computed. operations: page moves that the device may still
      answer, by number. parked: by (guest, issuer), in the order of arrival.
    reserved: slots promised to open guests. closed: counters of guests that are gone.
    reclaiming: free frames fell below the low watermark and are not yet at the high one.
    watched: somebody wants Noticed effects. Not part of a snapshot.
    """

    config: HostConfig
    frames: FrameTable
    slots: SlotTable
    policy: ReclaimPolicy
    guests: dict[int, Guest] = field(default_factory=dict)
    pending: dict[Stage, None] = field(default_factory=dict)
    operations: dict[int, Transfer] = field(default_factory=dict)
    parked: dict[tuple[int, int], Parked] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    guest_count: int = 0
    operation_count: int = 0
    reserved: int = 0
    closed: Statistics = field(default_factory=Statistics)
    reclaiming: bool = False
    watched: bool = False

    def next_operation(self) -> int:
        """A number that no page move had before."""
        self.operation_count += 1
        return self.operation_count


def make_machine(config: HostConfig, choices: Choices) -> Machine:
    """An empty host. Raises InvalidRequestError for a config that makes no sense."""
    config.check()
    return Machine(
        config=config,
        frames=FrameTable(config.frame_count),
        slots=SlotTable(config.slot_count),
        policy=make_policy(config.policy, choices),
    )
