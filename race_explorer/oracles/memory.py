"""The memory of one guest as its history explains it: a search for every page.

Rules:
- What a page is when watching begins is looked up; the content of one that is on the paging
  device then is not known until it is brought in, or replaced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from host_daemon.core.host import Host
from host_daemon.core.tables import DAMAGED
from race_explorer.naming import command_label, describe
from race_explorer.oracles.history import Answered, Event, History, Submitted
from race_explorer.oracles.oracle import Scene
from race_explorer.oracles.search import Search
from race_explorer.oracles.specification import LETTERS, ZEROES, Block
from race_explorer.world import GUEST
from shared.arch import STATE_MASK

LINES_MAX: Final = 12
"""Events of a page that are told when nothing explains its history."""


Seen = tuple[int, int, bytes | None]
"""A page as the host has it: state byte, storage key, content if it is resident."""


def see(host: Host, pfn: int) -> Seen:
    """Look at a page."""
    return host.state_byte(GUEST, pfn), host.storage_key(GUEST, pfn), host.content(GUEST, pfn)


def block_of(seen: Seen) -> Block:
    """What was seen, in the words of the specification; data is None if it is preserved."""
    byte, key, data = seen
    usage, content = tuple(LETTERS[byte & STATE_MASK])
    return Block(usage, content, key, ZEROES if content == "z" else data, bool(byte & DAMAGED))


class Memory:
    """Searches by page, and what was last heard of each page. seen: as it was at the beginning."""

    def __init__(self, scene: Scene) -> None:
        host = scene.world.host
        self.seen = [see(host, pfn) for pfn in range(scene.world.kernel.config.page_count)]
        self.searches = [Search(block_of(seen)) for seen in self.seen]
        self._heard: list[deque[Event]] = [deque(maxlen=LINES_MAX) for _ in self.seen]
        self._history = History()
        self._vcpu_count = scene.world.kernel.config.vcpu_count

    def unexplained(self, events: Iterable[Event]) -> Iterator[str]:
        """Hear these events; what of them nothing explains, with the events before it."""
        for event in events:
            for part in self._history.parts(event):
                if part.pfn >= len(self.searches):
                    continue  # an addressing exception
                self._heard[part.pfn].append(event)
                if not self._explained(part):
                    yield self.told(part.pfn, f"nothing explains that {self._sentence(event)}")

    def _explained(self, part: Submitted | Answered) -> bool:
        search = self.searches[part.pfn]
        if isinstance(part, Answered):
            return search.answer(part.number, part.answer)
        search.submit(part.number, part.call)
        return True

    def told(self, pfn: int, what: str) -> str:
        """A violation: what it is, and then, line by line, what was last heard of the page."""
        lines = [f"  {self._sentence(event)}" for event in self._heard[pfn]]
        return "\n".join([f"page {pfn}: {what}", *lines])

    def _sentence(self, event: Event) -> str:
        device = event.issuer - self._vcpu_count
        who = f"device {device}" if device >= 0 else f"vcpu {event.issuer}"
        label = command_label(event.command)
        if event.outcome is None:
            return f"{who} issues {label}"
        said = describe(event.outcome) or type(event.outcome).__name__.lower()
        return f"{who} is told by {label}: {said}"
