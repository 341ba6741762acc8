"""Which states a block can be in, after all that its guest has asked, been told, and seen of it.

Rules:
- A command takes effect at one moment between its submission and its answer; one that was never
  answered has taken effect or has not. What the host does by itself comes in between.
- What has been explained so far is a set of explanations, each a state and the commands that
  have taken effect and are not answered yet. Two ways to the same explanation are one: that is
  the memory without which every order would have to be tried to its end.
- Nothing is searched twice: an answer leaves the explanations that agree with it. None left means
  that no order explains the history up to here, and every shorter one has an order.

Models: Wing and Gong, "Testing and verifying concurrent objects" (1993), with the memory and the
just-in-time search of Lowe, "Testing for linearizability" (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from race_explorer.oracles.specification import Answer, Block, Call, agree, apply, moves

Done = tuple[tuple[int, Answer], ...]
"""Commands that have taken effect and are not answered: number and answer, ascending."""
Explanation = tuple[Block, Done]


@dataclass(slots=True)
class Search:
    """One block's history, from a state on that is known.

    explanations: in the order in which they were found; the values mean nothing. open: what was
    submitted and not answered, by number.
    """

    start: Block
    explanations: dict[Explanation, None] = field(init=False)
    open: dict[int, Call] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.explanations = {(self.start, ()): None}

    def submit(self, number: int, call: Call) -> None:
        """A command was submitted. number: unique; the order of numbers means nothing."""
        self.open[number] = call

    def answer(self, number: int, told: Answer) -> bool:
        """A command was answered; whether anything explains it."""
        found: dict[Explanation, None] = {}
        for (block, done), answer in self._until(number):
            if agree(answer, told):
                found[block, done] = None
        del self.open[number]
        self.explanations = found
        return bool(found)

    def see(self, look: Callable[[Block], Block | None]) -> bool:
        """Somebody has looked at the block itself; whether anything explains what he saw.

        look: the block as it is known now, or None if it is another than was seen. If nothing
        explains it, it is as if nobody had looked.
        """
        found: dict[Explanation, None] = {}
        for block, done in self._reachable():
            seen = look(block)
            if seen is not None:
                found[seen, done] = None
        if found:
            self.explanations = found
        return bool(found)

    def blocks(self) -> Iterator[Block]:
        """What the block may be now, what its guest was told last coming first."""
        return (block for block, _ in self._reachable())

    def _until(self, number: int) -> Iterator[tuple[Explanation, Answer]]:
        """Every way for a command to take effect: what is then explained, and its answer."""
        for block, done in self._reachable(number):
            before = next((answer for n, answer in done if n == number), None)
            if before is not None:
                yield (block, tuple(d for d in done if d[0] != number)), before
                continue
            after, answer = apply(block, self.open[number])
            yield (after, done), answer

    def _reachable(self, number: int | None = None) -> Iterator[Explanation]:
        """What can come of the explanations without an answer.

        number: a command with which it ends; nothing after its effect is wanted.
        """
        known = dict(self.explanations)
        waiting = list(known)
        for block, done in waiting:
            yield block, done
            taken = {n for n, _ in done}
            if number in taken:
                continue
            following: list[Explanation] = [(moved, done) for moved in moves(block)]
            for other, call in self.open.items():
                if other not in taken and other != number:
                    after, answer = apply(block, call)
                    following.append((after, tuple(sorted((*done, (other, answer)), key=_number))))
            for explanation in following:
                if explanation not in known:
                    known[explanation] = None
                    waiting.append(explanation)


def _number(done: tuple[int, Answer]) -> int:
    return done[0]
