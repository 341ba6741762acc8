"""Is a page that a vCPU holds stable left alone by everybody else?

A vCPU holds a page stable from when the last of a reference and a successful ESSA to stable has
come, until its reference is gone or it offers the page itself. Nobody may offer it meanwhile: that
is what the conditions of make_volatile and check_write are for (R1, R2), whether or not the host
then takes it.

Rules:
- Whose a reference is the kernel does not note. It belongs to the vCPU that took it, by the
  change of the count in that vCPU's steps, less those that ptes, page trees, the swap cache and
  buffers have.
- What was held before watching began is not known, and not judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from guest_agent.kernel.page import Page, PG_swapcache
from race_explorer.oracles.oracle import Oracle, Scene, vcpu_of
from race_explorer.world import GUEST
from shared.arch import STATE_MASK, STATE_NAMES, USAGE_MASK, VZ, Orc, Usage
from shared.commands import Essa, EssaOutcome, Outcome

_TO_STABLE = (Orc.SET_STABLE, Orc.SET_STABLE_MAKE_RESIDENT, Orc.SET_STABLE_IF_RESIDENT)
_OFFERS = (Orc.SET_UNUSED, Orc.SET_VOLATILE, Orc.SET_POTENTIAL_VOLATILE)


def unowned(page: Page) -> int:
    """References that belong to somebody who runs, and to no table, tree or list."""
    mapping = page.mapping
    cached = mapping is not None and mapping.pages.get(page.index) is page
    swapped = page.flags & PG_swapcache
    return page.count - page.mapcount - bool(cached or swapped) - bool(page.buffers)


@dataclass(slots=True)
class _Holder:
    """One vCPU. references: its own, by pfn. stable: pages that it has made stable, and that were
    not offered since by itself, or while it had no reference."""

    references: Counter[int] = field(default_factory=Counter)
    stable: set[int] = field(default_factory=set)


class _Holders:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        kernel = scene.world.kernel
        self._holders = [_Holder() for _ in kernel.cpus]
        self._unowned = [unowned(page) for page in kernel.mem_map]

    def look(self) -> Iterator[str]:
        """Pages that are held stable and are not stable."""
        scene = self._scene
        for event in scene.events:
            if isinstance(event.command, Essa):
                self._hear(event.issuer, event.command, event.outcome)
        self._count(None if scene.taken is None else vcpu_of(scene.taken))
        for number, holder in enumerate(self._holders):
            for pfn in sorted(holder.stable):
                state = scene.world.host.state_byte(GUEST, pfn) & STATE_MASK
                if holder.references[pfn] > 0 and state & USAGE_MASK != Usage.STABLE:
                    yield f"vcpu {number} holds page {pfn} stable, and it is {STATE_NAMES[state]}"

    def end(self) -> Iterator[str]:
        """Nothing: whoever still holds a page is the scenario's affair."""
        return iter(())

    def _hear(self, issuer: int, essa: Essa, outcome: Outcome | None) -> None:
        """An ESSA was issued, or answered; when an offer takes effect in between is not known."""
        pfn = essa.pfn
        if essa.orc in _OFFERS:
            for number, holder in enumerate(self._holders):
                if number == issuer or holder.references[pfn] <= 0:
                    holder.stable.discard(pfn)
        elif essa.orc in _TO_STABLE and isinstance(outcome, EssaOutcome):
            failed = essa.orc == Orc.SET_STABLE_IF_RESIDENT and outcome.state & STATE_MASK == VZ
            stable = self._holders[issuer].stable
            (stable.discard if failed else stable.add)(pfn)

    def _count(self, vcpu: int | None) -> None:
        """References that were taken or put in the step; a vCPU's, or nobody's."""
        for page in self._scene.world.kernel.mem_map:
            pfn, now = page.pfn, unowned(page)
            change, self._unowned[pfn] = now - self._unowned[pfn], now
            if not change:
                continue
            if vcpu is not None:
                holder = self._holders[vcpu]
                holder.references[pfn] += change
                if holder.references[pfn] <= 0:
                    holder.stable.discard(pfn)
            if page.count <= 0:
                self._forget(pfn)

    def _forget(self, pfn: int) -> None:
        """The page is free: nobody holds it."""
        for holder in self._holders:
            holder.references[pfn] = 0
            holder.stable.discard(pfn)


HOLDERS = Oracle(
    "holders",
    "a page that a vCPU holds a reference to, and has made stable, is not offered to the host by "
    "anybody else",
    _Holders,
)
