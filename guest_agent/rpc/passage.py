"""The door between a guest's link and its connections: who holds it sees what passes, or keeps it.

Rules:
- Called on the loop. `connecting` alone may wait; the others never block.
- What is kept is lost to the link: whoever keeps it hands it to the guest's end of the session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from shared.commands import Command, DiscardFault, Outcome


class Passage(Protocol):
    """What stands at the door; `OPEN` lets everything pass."""

    async def connecting(self, stream: str) -> None:
        """The stream of this method is about to be made, for the first time or again."""
        ...

    def sending(self, batch: Sequence[tuple[int, int, Command]]) -> None:
        """These commands go on their way: issuer, number, command. May be none."""
        ...

    def outcome(self, issuer: int, number: int, outcome: Outcome) -> bool:
        """An outcome has come; whether it goes on to the guest's end of the session."""
        ...

    def fault(self, fault: DiscardFault) -> bool:
        """A discard fault has come; whether it goes on to the guest's end of the session."""
        ...


class _Open:
    async def connecting(self, stream: str) -> None:
        return

    def sending(self, batch: Sequence[tuple[int, int, Command]]) -> None:
        return

    def outcome(self, issuer: int, number: int, outcome: Outcome) -> bool:
        return True

    def fault(self, fault: DiscardFault) -> bool:
        return True


OPEN: Final[Passage] = _Open()
