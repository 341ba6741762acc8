"""What a scenario is, and how it is shown: found without its guard, absent with it, reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from guest_agent.kernel.guards import FIXED, Guards
from host_daemon.core.config import HostGuards
from race_explorer.network import RepeatingWorld
from race_explorer.world import SimWorld
from shared.protection import protections
from shared.session.guards import LinkGuards

GROUPS: Final = (Guards, HostGuards, LinkGuards)


@dataclass(frozen=True, slots=True)
class Worlds:
    """What makes the worlds that scenarios are built in; called as the classes are."""

    plain: Callable[..., SimWorld] = SimWorld
    repeating: Callable[..., RepeatingWorld] = RepeatingWorld


@dataclass(frozen=True, slots=True)
class Protections:
    """All guards of guest, host and link. No two of them share a name. worlds: to build in."""

    guest: Guards = FIXED
    host: HostGuards = field(default_factory=HostGuards)
    link: LinkGuards = field(default_factory=LinkGuards)
    worlds: Worlds = field(default_factory=Worlds)

    def without(self, *names: str) -> Protections:
        """These protections with the named guards off. Raises TypeError for an unknown name."""
        unknown = set(names) - {guard.name for group in GROUPS for guard in protections(group)}
        if unknown:
            raise TypeError(f"no such guard: {', '.join(sorted(unknown))}")

        def off(group: type) -> dict[str, bool]:
            return {guard.name: False for guard in protections(group) if guard.name in names}

        return replace(
            self,
            guest=replace(self.guest, **off(Guards)),
            host=replace(self.host, **off(HostGuards)),
            link=replace(self.link, **off(LinkGuards)),
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """One race.

    races: rows of the race catalogue. guards: those whose removal must let the race through,
    each alone; if there are `pairs`, only both of a pair together, because one masks the other.
    damage: per removal, a word of the violation that it must end in.
    bound: schedules to try with all guards on where there are too many for all; None: all.
    sometimes: situations that must be reached, or a pass says nothing.
    """

    name: str
    races: tuple[str, ...]
    guards: tuple[str, ...]
    damage: tuple[str, ...]
    sometimes: tuple[str, ...]
    build: Callable[[Protections], SimWorld]
    pairs: tuple[tuple[str, ...], ...] = ()
    bound: int | None = None

    def removals(self) -> list[tuple[tuple[str, ...], str]]:
        """What to switch off together, and the word of the damage that must follow."""
        together = self.pairs or tuple((name,) for name in self.guards)
        return list(zip(together, self.damage, strict=True))
