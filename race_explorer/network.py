"""A network that may deliver a second copy of what it has carried, whenever it likes.

Rules:
- What is repeated comes as it was, numbers included: the session layer has to tell.
- Every copy is an option of its own; it comes once, and a run does not end before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from guest_agent.kernel.page import writes
from guest_agent.kernel.ports import Accesses
from host_daemon.core.effects import DeliverFault
from race_explorer import touching
from race_explorer.engine import Option
from race_explorer.world import GUEST, SimWorld
from shared.commands import Command, DiscardFault, Outcome
from shared.errors import SequenceError
from shared.session.host_end import Reception

Deliver = Callable[[], None]
_Copy = tuple[str, Callable[[], Accesses], Deliver]
"""What it is, what its arrival would touch as things are, and its arrival."""


class RepeatingWorld(SimWorld):
    """A world with such a network.

    repeats: whether there is to be a second copy of a command or of a discard fault; nothing
    is repeated until a scenario sets it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.repeats: Callable[[Command | DiscardFault], bool] = lambda _: False
        self._copies: dict[str, _Copy] = {}
        self._copied = 0

    async def call(self, issuer: int, command: Command) -> Outcome:
        """As ever; a copy of the command may follow from when it is answered."""
        outcome = await super().call(issuer, command)
        if self.repeats(command):
            number = self.guest_end.last_number(issuer)
            again = partial(self._execute_again, issuer, number, command)
            touched = partial(self._copy_touches, issuer, command)
            self._repeat(f"second {type(command).__name__}", touched, again)
        return outcome

    def deliver_fault(self, effect: DeliverFault) -> None:
        """As ever; a copy of the fault may follow at once."""
        super().deliver_fault(effect)
        fault = effect.fault
        if self.repeats(fault):
            touched = (writes("fault", fault.vcpu), writes("irq", fault.vcpu))
            self._repeat(
                "second discard fault", lambda: touched, partial(self._fault_again, effect)
            )

    def options(self) -> list[Option]:
        """Everything else, then the copies."""
        copies = [
            Option(name, label, touched, partial(self._arrive, name))
            for name, (label, touched, _) in self._copies.items()
        ]
        return [*super().options(), *copies]

    def _repeat(self, label: str, touched: Callable[[], Accesses], deliver: Deliver) -> None:
        self._copied += 1
        self._copies[f"network.{self._copied}"] = (label, touched, deliver)

    def _copy_touches(self, issuer: int, command: Command) -> Accesses:
        """What a command touches on the host, and its issuer's number; nobody goes on with it."""
        executing = touching.executing(self.host, GUEST, issuer, command)
        return (*executing, writes("reply", issuer))

    def _arrive(self, name: str) -> None:
        label, _, deliver = self._copies.pop(name)
        self.mark(label)
        deliver()

    def _execute_again(self, issuer: int, number: int, command: Command) -> None:
        """What a host does with it: refuse it, answer it from memory, or execute it.

        A second answer gets lost; the guest's end would not take it for anything.
        """
        try:
            reception = self.copy_comes_in(issuer, number, command)
        except SequenceError:
            self.mark("an old number is refused")
            return
        if reception is Reception.EXECUTE:
            self.host.execute(GUEST, issuer, command)
            self.pump()
        else:
            self.mark("the last number is answered from memory")

    def _fault_again(self, effect: DeliverFault) -> None:
        self.fault_arrives(effect.fault)  # by no wire: it is a copy
        self.acknowledge_settled()
