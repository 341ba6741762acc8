"""A small host written apart from the real one: dictionaries, if-chains, no tables, no arrays.

What one block does is `race_explorer.oracles.specification`; here are many of them, with frames,
slots, transfers and stages. It knows nothing of frame or slot numbers, only how many there are.
It says what every input must answer and what every page must then be, and which stages may run;
the tests compare. All host guards are on.
"""

from __future__ import annotations

from dataclasses import dataclass

from race_explorer.oracles.specification import (
    CHANGED,
    CODES,
    REFERENCED,
    ZEROES,
    after_essa,
    after_eviction,
    fetched,
    refusal,
    replaced,
)
from shared.commands import (
    DeviceLoad,
    DeviceStore,
    Done,
    Essa,
    EssaArray,
    EssaArrayOutcome,
    EssaOutcome,
    FaultPending,
    IoError,
    Iske,
    KeyOutcome,
    MachineCheck,
    ProgramInterruption,
    Rrbe,
    Sske,
    Store,
)


@dataclass(eq=False)
class Copy:
    """What a page once was, in a slot of the paging device."""

    data: bytes
    held: bool = True


@dataclass(eq=False)
class Flight:
    """A transfer: page-out if `out`, else page-in. live: somebody still wants it."""

    page: Page | None
    copy: Copy
    out: bool
    submitted: bool = False
    live: bool = True


@dataclass(eq=False)
class Page:
    """One page of the guest."""

    pfn: int
    usage: str = "S"
    content: str = "z"
    key: int = 0
    data: bytes = ZEROES
    copy: Copy | None = None
    victim: str = ""  # "", "chosen", "removed", "read"
    seen_changed: bool = False
    flight: Flight | None = None
    damaged: bool = False

    @property
    def code(self) -> int:
        """As ESSA reports it."""
        return CODES[self.usage] | CODES[self.content]


class Oracle:
    """One guest on one host."""

    def __init__(
        self,
        *,
        kvm: bool,
        pages: int,
        vcpus: int,
        devices: int,
        frames: int,
        slots: int,
        unused_ok: bool = False,
    ) -> None:
        self.kvm = kvm
        self.vcpus = vcpus
        self.devices = devices
        self.frames_free = frames
        self.slots_free = slots
        self.unused_ok = unused_ok
        self.pages = [Page(pfn, content="p" if kvm else "z") for pfn in range(pages)]
        self.parked: dict[int, tuple[object, str]] = {}
        self.lists: list[list[tuple[Page, Copy]]] = [[] for _ in range(vcpus)]
        self.faults: list[int] = []
        self.fault_pages: dict[int, int] = {}
        self.delivered: set[int] = set()
        self.fault_count = 0

    # ESSA

    def execute(self, issuer: int, command: object) -> object:
        """The outcome, or None if the command is parked."""
        self.parked.pop(issuer, None)
        outcome = self._do(issuer, command)
        if outcome is None:
            self._park(issuer, command)
        return outcome

    def _park(self, issuer: int, command: object) -> None:
        page = self.pages[command.pfn]
        self.parked[issuer] = (command, page.usage + page.content)

    def _do(self, issuer: int, command: object) -> object:
        if isinstance(command, EssaArray):
            return EssaArrayOutcome(
                bytes(
                    self._element(issuer, int(orc), int(pfn), command.problem_state)
                    for orc, pfn in zip(command.orcs, command.pfns, strict=True)
                )
            )
        if isinstance(command, Essa):
            return self._essa(issuer, command.orc, command.pfn, command.problem_state)
        if command.pfn >= len(self.pages):
            if isinstance(command, DeviceLoad | DeviceStore):
                return IoError()
            return ProgramInterruption(0x05)
        page = self.pages[command.pfn]
        if isinstance(command, Rrbe):
            key, page.key = page.key, page.key & ~REFERENCED
            return KeyOutcome(key)
        if isinstance(command, Iske):
            return KeyOutcome(page.key)
        if isinstance(command, Sske):
            page.key = command.key
            if page.victim in ("removed", "read"):
                page.victim = ""
            return Done()
        return self._access(issuer, command, page)

    def _element(self, issuer: int, orc: int, pfn: int, problem: bool) -> int:
        outcome = self._essa(issuer, orc, pfn, problem)
        if isinstance(outcome, ProgramInterruption):
            return 0x80 | outcome.code
        return outcome.state

    def _essa(self, issuer: int, orc: int, pfn: int, problem: bool) -> object:
        if problem:
            return ProgramInterruption(0x02)
        if orc > 6:
            return ProgramInterruption(0x06)
        if pfn >= len(self.pages):
            return ProgramInterruption(0x05)
        page = self.pages[pfn]
        if orc == 0:
            return EssaOutcome(page.code)
        if page.content == "r":
            self._leave_alone(page)
        before = page.code
        usage, content = after_essa(
            orc, page.usage, page.content, changed=bool(page.key & CHANGED), kvm=self.kvm
        )
        if content == "r" and page.content != "r":
            ended = self._bring_in(page)
            if ended is not True:
                return ended
        elif page.content != "r" and (orc in (2, 3) or content != page.content):
            self._give_up(issuer, page, usage)
        page.usage = usage
        return EssaOutcome(before)

    def _give_up(self, issuer: int, page: Page, usage: str) -> None:
        """Orc 2, 3 or 4 for a page that is not resident: its content goes, its slot later."""
        if page.flight is not None:
            self.frames_free += 1
            page.flight.live = False
            page.flight = None
        page.usage, page.content, page.damaged = usage, "z", False
        if page.copy is not None:
            entries = self.lists[issuer]
            entries.append((page, page.copy))
            if not self.kvm:
                page.copy = None
            if len(entries) == 511:
                self._drain(issuer)

    def _drain(self, vcpu: int) -> None:
        for page, copy in self.lists[vcpu]:
            if not copy.held:
                continue
            if self.kvm:
                if page.content == "r" or not (page.usage == "U" or page.content == "z"):
                    continue
                page.copy = None
            copy.held = False
            self.slots_free += 1
        self.lists[vcpu] = []

    # Accesses

    def _access(self, issuer: int, command: object, page: Page) -> object:
        device = issuer >= self.vcpus
        storing = isinstance(command, Store)
        refused = self._refusal(page, device=device)
        if isinstance(refused, FaultPending):
            self.fault_count += 1
            self.faults.append(self.fault_count)
            self.fault_pages[self.fault_count] = page.pfn
            return FaultPending(self.fault_count)
        if refused is not None:
            return refused
        if page.content != "r":
            ended = self._bring_in(page)
            if ended is not True:
                return ended
        elif storing:
            if page.flight is not None:
                self._cancel_page_out(page)
            elif page.victim in ("removed", "read"):
                page.victim = ""
        if storing:
            page.key |= REFERENCED | CHANGED
            page.data = replaced(page.data, command.offset, command.data * command.repeat)
            return Done()
        page.key |= REFERENCED
        return fetched(page.data, command.offset, command.length)

    def _refusal(self, page: Page, *, device: bool) -> object:
        """What an access ends in without waiting; in mode `kvm` nothing is ever refused."""
        if self.kvm:
            return None
        return refusal(page.usage, page.content, device=device, unused_ok=self.unused_ok)

    def _bring_in(self, page: Page) -> object:
        """True: resident now. MachineCheck, or None: wait."""
        if page.damaged:
            return MachineCheck()
        if page.flight is not None or self.frames_free == 0:
            return None
        self.frames_free -= 1
        if page.content == "p" and page.copy is not None:
            page.flight = Flight(page, page.copy, out=False)
            return None
        if page.copy is not None:
            page.copy.held = False
            page.copy = None
            self.slots_free += 1
        page.content, page.data = "r", ZEROES
        return True

    # The host's own work

    def _leave_alone(self, page: Page) -> None:
        page.victim = ""
        if page.flight is not None:
            self._cancel_page_out(page)

    def _cancel_page_out(self, page: Page) -> None:
        flight, page.flight = page.flight, None
        flight.live = False
        if not flight.submitted:
            flight.copy.held = False
            self.slots_free += 1

    def evict(self, pfn: int) -> bool:
        """Name a victim."""
        page = self.pages[pfn]
        if page.content != "r" or page.victim or page.flight is not None:
            return False
        page.victim = "chosen"
        return True

    def stages(self) -> set[tuple[str, int]]:
        """All stages that may run, CHOOSE_VICTIM excepted: (name, number)."""
        able = set()
        for page in self.pages:
            if page.victim:
                name = {"chosen": "REMOVE_ACCESS", "removed": "READ_CHANGE_BIT", "read": "COMMIT"}
                able.add((name[page.victim], page.pfn))
            if page.flight is not None and not page.flight.submitted:
                way = "SUBMIT_PAGE_OUT" if page.flight.out else "SUBMIT_PAGE_IN"
                able.add((way, page.pfn))
        for vcpu, entries in enumerate(self.lists):
            if entries:
                able.add(("DRAIN_RELEASE_LIST", vcpu))
        waiting = [number for number in self.faults if number not in self.delivered]
        if waiting:
            able.add(("DELIVER_FAULT", min(waiting)))
        for issuer, (command, _) in self.parked.items():
            if not self._would_wait(issuer, command):
                able.add(("RESUME", issuer))
        return able

    def _would_wait(self, issuer: int, command: object) -> bool:
        page = self.pages[command.pfn]
        if page.content == "r" or page.damaged:
            return False
        if not isinstance(command, Essa) and self._refusal(page, device=False) is not None:
            return False
        return page.flight is not None or self.frames_free == 0

    def can_choose(self) -> bool:
        """Whether any page could be named as a victim by a policy."""
        room = self.slots_free > 0 or any(self.lists)
        return any(
            page.content == "r"
            and not page.victim
            and page.flight is None
            and (room or self._droppable(page, bool(page.key & CHANGED)))
            for page in self.pages
        )

    def _droppable(self, page: Page, changed: bool) -> bool:
        """Whether an eviction writes nothing."""
        usage, content = self._evicted(page, changed)
        return content == "z" or usage == "U"

    def _evicted(self, page: Page, changed: bool) -> tuple[str, str]:
        return after_eviction(page.usage, changed=changed, kvm=self.kvm)

    def run(self, name: str, number: int) -> tuple[int, object] | Flight | None:
        """Do a stage. RESUME that ends: (issuer, outcome). A submission: its flight."""
        if name == "DRAIN_RELEASE_LIST":
            self._drain(number)
        elif name == "DELIVER_FAULT":
            self.delivered.add(number)
        elif name == "RESUME":
            return self._resume(number)
        elif name == "REMOVE_ACCESS":
            self.pages[number].victim = "removed"
        elif name == "READ_CHANGE_BIT":
            self.pages[number].victim = "read"
            self.pages[number].seen_changed = bool(self.pages[number].key & CHANGED)
        elif name == "COMMIT":
            self._commit(self.pages[number])
        else:
            flight = self.pages[number].flight
            flight.submitted = True
            return flight
        return None

    def _resume(self, issuer: int) -> tuple[int, object] | None:
        command, seen = self.parked[issuer]
        outcome = self._do(issuer, command)
        if outcome is None:
            self._park(issuer, command)
            return None
        del self.parked[issuer]
        waited_for_copy = isinstance(command, Essa) and seen == "Sp"
        if waited_for_copy and outcome == EssaOutcome(CODES["S"]):
            outcome = EssaOutcome(CODES["S"] | CODES["p"])
        return issuer, outcome

    def _commit(self, page: Page) -> None:
        page.victim = ""
        usage, content = self._evicted(page, page.seen_changed)
        if self._droppable(page, page.seen_changed):
            page.usage, page.content = usage, content
            page.key &= ~(REFERENCED | CHANGED)
            page.data = ZEROES
            self.frames_free += 1
            return
        if self.slots_free == 0:
            for vcpu in range(self.vcpus):
                self._drain(vcpu)
        if self.slots_free == 0:
            return
        self.slots_free -= 1
        page.usage = usage
        page.flight = Flight(page, Copy(page.data), out=True)

    def finish(self, flight: Flight, ok: bool) -> None:
        """A submitted flight has landed; not ok: a failed write, or a damaged copy."""
        if flight.out and not (flight.live and ok):
            flight.copy.held = False
            self.slots_free += ok  # a slot that failed is never used again
        if not flight.live:
            return
        page = flight.page
        page.flight = None
        if flight.out:
            if ok:
                page.content, page.copy = "p", flight.copy
                self.frames_free += 1
        elif ok:
            page.content, page.data, page.copy = "r", flight.copy.data, None
            flight.copy.held = False
            self.slots_free += 1
        else:
            page.damaged = True
            self.frames_free += 1

    def acknowledge(self, number: int) -> None:
        """The guest has settled a fault."""
        if number in self.faults:
            self.faults.remove(number)

    def redeliver(self) -> None:
        """Everything unacknowledged is to be delivered again."""
        self.delivered = set()
