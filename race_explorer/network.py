"""A network that may deliver a second copy of what it has carried, whenever it likes.

Rules:
- What is repeated comes as it was, numbers included: the session layer has to tell.
- Every copy is an option of its own; it comes once, and a run does not end before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from guest_agent.kernel.page import writes
from guest_agent.kernel.ports import Access
from host_daemon.core.effects import DeliverFault
from race_explorer.engine import Option
from race_explorer.world import GUEST, SimWorld
from shared.commands import Command, DiscardFault, Outcome
from shared.errors import SequenceError
from shared.session.host_end import Reception


class RepeatingWorld(SimWorld):
    """A world with such a network.

    repeats: whether there is to be a second copy of a command or of a discard fault; nothing
    is repeated until a scenario sets it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.repeats: Callable[[Command | DiscardFault], bool] = lambda _: False
        self._copies: list[Option] = []
        self._copied = 0

    async def call(self, issuer: int, command: Command) -> Outcome:
        """As ever; a copy of the command may follow from when it is answered."""
        outcome = await super().call(issuer, command)
        if self.repeats(command):
            number = self.host_end.snapshot()[issuer][0]
            again = partial(self._execute_again, issuer, number, command)
            self._repeat(f"second {type(command).__name__}", self._touched(issuer, command), again)
        return outcome

    def deliver_fault(self, effect: DeliverFault) -> None:
        """As ever; a copy of the fault may follow at once."""
        super().deliver_fault(effect)
        fault = effect.fault
        if self.repeats(fault):
            touched = (writes("fault", fault.vcpu), writes("irq", fault.vcpu))
            self._repeat("second discard fault", touched, partial(self._fault_again, effect))

    def options(self) -> list[Option]:
        """Everything else, then the copies."""
        return [*super().options(), *self._copies]

    def _repeat(self, label: str, touched: Sequence[Access], deliver: Callable[[], None]) -> None:
        self._copied += 1
        name = f"network.{self._copied}"

        def run() -> None:
            self._copies = [copy for copy in self._copies if copy.name != name]
            self.mark(label)
            deliver()

        self._copies.append(Option(name, label, tuple(touched), run))

    def _execute_again(self, issuer: int, number: int, command: Command) -> None:
        """What a host does with it: refuse it, answer it from memory, or execute it.

        A second answer gets lost; the guest's end would not take it for anything.
        """
        try:
            reception = self.host_end.receive(issuer, number)
        except SequenceError:
            self.mark("an old number is refused")
            return
        if reception is Reception.EXECUTE:
            self.host.execute(GUEST, issuer, command)
            self._pump()
        else:
            self.mark("the last number is answered from memory")

    def _fault_again(self, effect: DeliverFault) -> None:
        super().deliver_fault(effect)
        for settled in self.guest_end.acknowledgements():
            self.host.acknowledge_fault(GUEST, settled)
