"""The host's end of a session: executes every numbered command exactly once.

Rules:
- A vCPU (or a device) has at most one command outstanding, numbered 1, 2, 3, ... per issuer.
- The last outcome of each issuer is kept until its next command comes.
- No I/O here: a shell, or the race explorer, carries the messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from shared.commands import Outcome
from shared.errors import InvalidRequestError, SequenceError
from shared.session.guards import LinkGuards


class Reception(Enum):
    """What to do with a command that has just come in, besides answering it."""

    EXECUTE = "execute"
    ATTACHED = "attached"


@dataclass(slots=True)
class HostEnd:
    """One guest's numbering and last outcomes. All methods are atomic.

    issuer_count: vCPUs first, then devices.
    """

    issuer_count: int
    guards: LinkGuards = field(default_factory=LinkGuards)
    _numbers: list[int] = field(init=False)
    _outcomes: list[Outcome | None] = field(init=False)

    def __post_init__(self) -> None:
        self._numbers = [0] * self.issuer_count
        self._outcomes = [None] * self.issuer_count

    def receive(self, vcpu: int, number: int) -> Reception | Outcome:
        """Decide what a command is: new (EXECUTE), still parked (ATTACHED), or done (its outcome).

        Raises InvalidRequestError for an unknown issuer and SequenceError for a number that
        is neither the last nor the next; both leave the session as it was.
        """
        self._check(vcpu)
        last, outcome = self._numbers[vcpu], self._outcomes[vcpu]
        if number == last + 1 and (last == 0 or outcome is not None):
            self._numbers[vcpu], self._outcomes[vcpu] = number, None
            return Reception.EXECUTE
        if number == last and number > 0:
            if not self.guards.answer_repeats:
                return Reception.EXECUTE
            return Reception.ATTACHED if outcome is None else outcome
        if number < last and number > 0 and not self.guards.answer_repeats:
            return Reception.EXECUTE
        raise SequenceError(
            f"vcpu {vcpu} sent number {number}; its last is {last}",
            vcpu=vcpu,
            number=number,
            last=last,
        )

    def complete(self, vcpu: int, outcome: Outcome) -> int:
        """Keep the outcome of the issuer's current command; returns the command's number."""
        self._outcomes[vcpu] = outcome
        return self._numbers[vcpu]

    def is_outstanding(self, vcpu: int) -> bool:
        """Whether the issuer's command is still parked."""
        self._check(vcpu)
        return self._numbers[vcpu] > 0 and self._outcomes[vcpu] is None

    def outstanding(self) -> list[int]:
        """The issuers whose command is still parked."""
        return [vcpu for vcpu in range(self.issuer_count) if self.is_outstanding(vcpu)]

    def snapshot(self) -> list[tuple[int, Outcome | None]]:
        """Number and last outcome per issuer, as plain data."""
        return list(zip(self._numbers, self._outcomes, strict=True))

    def restore(self, issuers: list[tuple[int, Outcome | None]]) -> None:
        """The inverse of `snapshot`."""
        self._numbers = [number for number, _ in issuers]
        self._outcomes = [outcome for _, outcome in issuers]

    def _check(self, vcpu: int) -> None:
        if not 0 <= vcpu < self.issuer_count:
            raise InvalidRequestError(
                f"vcpu is {vcpu}; it must be 0 to {self.issuer_count - 1}", field="vcpu", value=vcpu
            )
