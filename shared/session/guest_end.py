"""The guest's end of a session: nothing lost, nothing taken twice.

Rules:
- What was submitted and not answered is outstanding, and is sent again after a reconnect.
- An answer counts once; a discard fault is handed out once and acknowledged when its vCPU
  holds the page's reference or was refused it.
- No I/O here: a shell, or the race explorer, carries the messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.commands import Command, DiscardFault, Outcome
from shared.session.guards import LinkGuards


@dataclass(slots=True)
class GuestEnd:
    """One guest's outstanding commands and faults. All methods are atomic."""

    issuer_count: int
    guards: LinkGuards = field(default_factory=LinkGuards)
    _numbers: list[int] = field(init=False)
    _outstanding: dict[int, tuple[int, Command]] = field(default_factory=dict)
    _unsent: list[int] = field(default_factory=list)
    _open_faults: set[int] = field(default_factory=set)
    _settled_faults: list[int] = field(default_factory=list)
    _highest_fault: int = 0

    def __post_init__(self) -> None:
        self._numbers = [0] * self.issuer_count

    def submit(self, vcpu: int, command: Command) -> int:
        """Number the issuer's next command and queue it; returns the number."""
        assert vcpu not in self._outstanding, f"vcpu {vcpu} has a command outstanding"
        self._numbers[vcpu] += 1
        self._outstanding[vcpu] = (self._numbers[vcpu], command)
        self._unsent.append(vcpu)
        return self._numbers[vcpu]

    def last_number(self, vcpu: int) -> int:
        """The number of the issuer's last command; 0 before the first."""
        return self._numbers[vcpu]

    def outgoing(self) -> list[tuple[int, int, Command]]:
        """Everything not yet sent on this connection, in order: (vcpu, number, command)."""
        batch = [(vcpu, *self._outstanding[vcpu]) for vcpu in self._unsent]
        self._unsent.clear()
        return batch

    def outstanding(self) -> dict[int, Command]:
        """What was submitted and not answered, by issuer."""
        return {issuer: command for issuer, (_, command) in self._outstanding.items()}

    def connection_lost(self) -> None:
        """Mark all outstanding commands, and all acknowledgements, as to be sent again."""
        if self.guards.resend_outstanding:
            self._unsent = sorted(self._outstanding)

    def unanswered(self) -> dict[int, int]:
        """The number of each issuer's outstanding command that was sent on this connection."""
        return {v: n for v, (n, _) in self._outstanding.items() if v not in self._unsent}

    def send_again(self, vcpu: int) -> None:
        """The issuer's outstanding command, or its answer, may be lost: queue it once more."""
        if vcpu in self._outstanding and vcpu not in self._unsent:
            self._unsent.append(vcpu)

    def receive(self, vcpu: int, number: int, outcome: Outcome) -> bool:
        """Whether this answers the issuer's outstanding command; a repeat answers nothing."""
        current = self._outstanding.get(vcpu)
        if current is None or (current[0] != number and self.guards.match_answers):
            return False
        del self._outstanding[vcpu]
        if vcpu in self._unsent:  # answered from an earlier connection before it was sent again
            self._unsent.remove(vcpu)
        return True

    def fault_received(self, fault: DiscardFault) -> bool:
        """Whether to hand the fault to its vCPU; False for one that was delivered before.

        Faults come in order, so a number at or below the highest seen is a redelivery.
        One whose acknowledgement may have been lost is acknowledged again.
        """
        if fault.number <= self._highest_fault:
            if fault.number not in self._open_faults:
                self._settled_faults.append(fault.number)
            return not self.guards.dismiss_duplicate_faults
        self._highest_fault = fault.number
        self._open_faults.add(fault.number)
        return True

    def fault_settled(self, number: int) -> None:
        """The vCPU's handler holds the reference or was refused it; acknowledge the fault."""
        self._open_faults.discard(number)
        self._settled_faults.append(number)

    def acknowledgements(self) -> list[int]:
        """Fault numbers to acknowledge now; each is returned once."""
        settled = self._settled_faults
        self._settled_faults = []
        return settled
