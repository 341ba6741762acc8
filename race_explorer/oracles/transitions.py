"""Does every page change as the rules have it, and not otherwise? Looked at after every step.

Rules:
- State, storage key and, while it is resident, content: each change is the effect of a command
  under way, or a move that the host is free to make. So no stable page is discarded, nothing
  that is resident and stable changes without a store, and a page is Sz only if it was never
  stored to or its content was given up.
- The answers have to agree with the same order: this is linearizability with eyes open.
- That a state is legal at all, the core asserts after every input (`Host._assert_legal`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from race_explorer.oracles.history import pages_of
from race_explorer.oracles.memory import Memory, block_of, see
from race_explorer.oracles.oracle import Oracle, Scene
from race_explorer.oracles.specification import Block


class _Transitions:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._memory = Memory(scene)
        self._seen = list(self._memory.seen)

    def look(self) -> Iterator[str]:
        """Answers that nothing explains, then pages that have become what nothing makes of them."""
        memory, host = self._memory, self._scene.world.host
        unexplained = list(memory.unexplained(self._scene.events))
        if unexplained:
            yield from unexplained
            return
        touched = {pfn for event in self._scene.events for pfn in pages_of(event.command)}
        for pfn, before in enumerate(self._seen):
            now = see(host, pfn)
            if now == before and pfn not in touched:
                continue
            self._seen[pfn] = now
            search, block = memory.searches[pfn], block_of(now)
            if not search.see(partial(_agreed, block)):
                yield memory.told(pfn, _difference(list(search.blocks()), block))

    def end(self) -> Iterator[str]:
        """Nothing: the last step was looked at."""
        return iter(())


def _agreed(seen: Block, known: Block) -> Block | None:
    """What is known after a look at a block that was thought to be `known`."""
    if (known.name, known.key, known.damaged) != (seen.name, seen.key, seen.damaged):
        return None
    if known.data is None or seen.data is None:
        return known if seen.data is None else seen
    return known if known.data == seen.data else None


def _difference(possible: list[Block], found: Block) -> str:
    """A sentence for a page that is not what it may be. possible: first what it was last."""
    same_state = [block for block in possible if block.name == found.name]
    same_key = [block for block in same_state if block.key == found.key]
    was = possible[0]
    if same_key:
        return f"the content of a page in {found.name} has changed, and nobody has stored to it"
    if same_state:
        key = same_state[0].key
        return f"storage key {key:#04x} is {found.key:#04x}, and nothing makes it so"
    if was.usage == "S" and was.content != "z" and found.content == "z":
        return f"{was.name} is stable, and the host has discarded it: {found.name}"
    return f"{was.name} has become {found.name}, and nothing makes it so"


TRANSITIONS = Oracle(
    "transitions",
    "every page's state, storage key and content change only by a command under way or by a move "
    "that the host is free to make",
    _Transitions,
)
