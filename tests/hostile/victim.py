"""A quiet guest that others mean harm: known contents, states, keys, and faults that wait.

Rules:
- Its connection for commands stays open, so that its name is held. Nobody subscribes to its
  faults, so that they wait.
- Whatever is looked at stays as it is, but for contents, which are looked at last.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from shared.arch import KEY_CHANGED, KEY_REFERENCED, STATE_NAMES, Orc
from shared.commands import (
    DONE,
    Command,
    DiscardFault,
    Essa,
    FaultPending,
    Iske,
    Load,
    LoadOutcome,
    Outcome,
    Sske,
    Store,
)
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import call
from tests.rpc.world import Connection, FaultReader

PLAN: Final = ("Sr", "Sp", "Sz", "Ur", "Uz", "Vr", "Vz", "Vz", "Vz", "Pr")
"""States by page. Each Vz but the first two is met by an access; the last fault is acknowledged."""
EVICTED: Final = {"Sr": "Sp", "Ur": "Uz", "Vr": "Vz", "Pr": "Sp"}
_HINTS: Final = {
    "S": Orc.SET_STABLE,
    "U": Orc.SET_UNUSED,
    "V": Orc.SET_VOLATILE,
    "P": Orc.SET_POTENTIAL_VOLATILE,
}
_PAGE_BYTES: Final = 4096
_SOON: Final = 0.01


class Victim:
    """One that is open, until its channel is closed."""

    def __init__(self, essa: Any, control: Any, name: str, session: pb.Session) -> None:
        self.name, self.session = name, session
        self._essa, self._control = essa, control
        self._connection = Connection(essa, session)
        self._number = 0
        self._plan: list[str] = list(PLAN)
        self._guest: pb.Guest | None = None
        self._keys: list[Outcome] = []
        self._faults: list[DiscardFault | None] = []

    async def changes(self) -> list[str]:
        """What is not as it was, in words."""
        if self._connection.stream.done():
            return [f"{self.name}: its connection has ended"]
        found = []
        if (states := await self._states()) != self._plan:
            found.append(f"states are {states}, were {self._plan}")
        if (guest := await self._seen()) != self._guest:
            found.append(f"the host says {guest}, and said {self._guest}")
        if (keys := await self._read_keys()) != self._keys:
            found.append(f"keys are {keys}, were {self._keys}")
        if (faults := await self._waiting_faults()) != self._faults:
            found.append(f"faults are {faults}, were {self._faults}")
        for pfn, state in enumerate(self._plan):
            if state[0] == "S" or state in ("Vr", "Pr"):
                loaded = await self._ask(Load(pfn, 0, _PAGE_BYTES))
                if not isinstance(loaded, LoadOutcome):
                    found.append(f"page {pfn} is read as {loaded}")
                elif loaded.data * loaded.repeat != self._content(pfn):
                    found.append(f"page {pfn} holds {loaded.data[:40]!r}")
        return [f"{self.name}: {what}" for what in found]

    async def prepare(self, *, evicted: bool) -> None:
        """Bring all about. evicted: nothing stays resident, so that no pressure changes it."""
        for pfn, state in enumerate(PLAN):
            if state != "Sz":
                assert await self._ask(Store(pfn, 0, self._content(pfn))) == DONE
            # Changed, so that a potential volatile page is kept.
            key = pfn << 4 | KEY_REFERENCED | KEY_CHANGED
            assert await self._ask(Sske(pfn, key)) == DONE
            await self._ask(Essa(_HINTS[state[0]], pfn))
        await self._evict([pfn for pfn, state in enumerate(PLAN) if state[1] != "r"])
        if evicted:
            self._plan = [EVICTED.get(state, state) for state in PLAN]
            await self._evict(range(len(PLAN)))
        # Pages on their way out are resident still, and nothing tells when they are gone.
        while await self._states() != self._plan:  # noqa: ASYNC110
            await asyncio.sleep(_SOON)
        _, *pfns = (pfn for pfn, state in enumerate(PLAN) if state == "Vz")
        for pfn in pfns:
            assert isinstance(await self._ask(Load(pfn, 0, 1)), FaultPending)
        self._faults = await self._waiting_faults()
        assert len(self._faults) > 1
        last = self._faults.pop()
        assert last is not None
        request = pb.AcknowledgeFaultsRequest(session=self.session, numbers=[last.number])
        await call(self._essa, "AcknowledgeFaults", request)
        self._keys = await self._read_keys()
        self._guest = await self._seen()

    def _content(self, pfn: int) -> bytes:
        if PLAN[pfn] == "Sz":
            return bytes(_PAGE_BYTES)
        text = f"page {pfn} of {self.name}; ".encode()
        return (text * _PAGE_BYTES)[:_PAGE_BYTES]

    async def _ask(self, command: Command) -> Outcome:
        self._number += 1
        return await self._connection.ask(0, self._number, command)

    async def _states(self) -> list[str]:
        request = pb.GetPageMapRequest(name=self.name)
        states = (await call(self._control, "GetPageMap", request)).states
        return [STATE_NAMES[state] for state in states]

    async def _evict(self, pfns: Any) -> None:
        request = pb.EvictPagesRequest(name=self.name)
        for pfn in pfns:
            request.ranges.add(first_pfn=pfn, page_count=1)
        await call(self._control, "EvictPages", request)

    async def _seen(self) -> pb.Guest:
        """The guest as operators see it, once nobody subscribes to its faults."""
        while True:
            response = await call(self._control, "GetGuest", pb.GetGuestRequest(name=self.name))
            guest: pb.Guest = response.guest
            if not guest.subscribed:
                return guest
            await asyncio.sleep(_SOON)

    async def _read_keys(self) -> list[Outcome]:
        return [await self._ask(Iske(pfn)) for pfn in range(len(PLAN))]

    async def _waiting_faults(self) -> list[DiscardFault | None]:
        count = (await self._seen()).unacknowledged_fault_count
        request = pb.SubscribeFaultsRequest(session=self.session)
        reader = FaultReader(self._essa.SubscribeFaults(request))
        found = [await reader.next() for _ in range(count)]
        reader.cut()
        return found


async def open_victim(
    essa: Any, control: Any, name: str = "victim", *, evicted: bool = False
) -> Victim:
    """Open it through those stubs."""
    request = pb.OpenGuestRequest(name=name, page_count=len(PLAN), vcpu_count=2, mode=pb.MODE_SEED)
    opened = await call(essa, "OpenGuest", request)
    victim = Victim(essa, control, name, opened.session)
    await victim.prepare(evicted=evicted)
    return victim
