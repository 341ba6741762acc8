"""The checker of histories equals brute force: every order, every subset of open commands.

Method: histories of up to five commands on one block are drawn from a true execution, with the
host moving in between, and then one answer in two is falsified. Brute force tries all
permutations that respect who was answered before whom was submitted, with and without each
command that was never answered. Both verdicts must occur, and the prefix that is named must be
the smallest that brute force cannot explain either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from random import Random

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from race_explorer.oracles.history import Answered, Event, History, Submitted
from race_explorer.oracles.search import Search
from race_explorer.oracles.specification import (
    FAULT,
    LETTERS,
    ZEROES,
    Answer,
    Block,
    Call,
    Essas,
    States,
    agree,
    apply,
    moves,
)
from shared.arch import Mode
from shared.commands import (
    DONE,
    DeviceLoad,
    DeviceStore,
    Essa,
    EssaArray,
    EssaArrayOutcome,
    EssaOutcome,
    FaultPending,
    IoError,
    Iske,
    KeyOutcome,
    Load,
    LoadOutcome,
    MachineCheck,
    ProgramInterruption,
    Rrbe,
    Sske,
    Store,
)
from tests.host.world import make_world

OPERATIONS_MAX = 5
A, B = (bytes([letter]) * 32 for letter in b"AB")
STATES = ["Sr", "Sp", "Sz", "Ur", "Uz", "Vr", "Vz", "Pr"]
CALLS: list[Call] = [
    *(Essa(orc, 0) for orc in range(7)),
    Load(0, 0, 32),
    Load(0, 0, 32),
    Store(0, 0, A),
    Store(0, 0, B, 128),
    DeviceLoad(0, 0, 4096),
    DeviceStore(0, 0, A, 128),
    Iske(0),
    Rrbe(0),
    Sske(0, 0),
    Sske(0, 2),
    Essas((3, 1)),
]
Choose = Callable[[int], int]


@dataclass(frozen=True)
class Operation:
    """One command: when it was submitted and answered. answered None: never."""

    call: Call
    submitted: int
    answered: int | None
    answer: Answer | None


def overlap(a: Operation, b: Operation) -> bool:
    """Whether either of the two may have been first."""
    return (b.answered is None or a.submitted < b.answered) and (
        a.answered is None or b.submitted < a.answered
    )


# Histories.


def start(choose: Choose) -> Block:
    """A block in any state."""
    name = STATES[choose(len(STATES))]
    data = ZEROES if name[1] == "z" else (A * 128, None)[choose(8) == 7]
    return Block(name[0], name[1], (0, 2, 4, 6)[choose(4)], data, name == "Sp" and choose(8) == 0)


def executed(block: Block, choose: Choose) -> list[Operation]:
    """A true execution of a few commands: each takes effect between its ends, if it has two."""
    calls = [CALLS[choose(len(CALLS))] for _ in range(1 + choose(OPERATIONS_MAX))]
    ends: dict[int, list[int]] = {i: [] for i in range(len(calls))}
    effects: dict[int, Answer] = {}
    now = 0
    while any(len(e) < 2 for e in ends.values()) and now < 40:
        now += 1
        if choose(3) == 0:
            possible = list(moves(block))
            block = possible[choose(len(possible))] if possible else block
            continue
        i = choose(len(calls))
        if not ends[i]:
            ends[i].append(now)
        elif i not in effects:
            block, effects[i] = apply(block, calls[i])
        elif len(ends[i]) == 1 and choose(4):
            ends[i].append(now)
    return [
        Operation(call, e[0], e[1] if len(e) == 2 else None, effects[i] if len(e) == 2 else None)
        for i, (call, e) in enumerate(zip(calls, ends.values(), strict=True))
        if e
    ]


def falsified(operations: list[Operation], choose: Choose) -> list[Operation]:
    """One answer is replaced, by one that the command might get."""
    answered = [i for i, operation in enumerate(operations) if operation.answer is not None]
    if not answered:
        return operations
    i = answered[choose(len(answered))]
    answers: list[Answer] = {
        Essa: [EssaOutcome(code) for code in (0, 2, 3, 4, 7, 8, 12, 15)],
        Essas: [States((0, 12)), States((3, 15)), States((2, 15))],
        Iske: [KeyOutcome(key) for key in (0, 2, 4, 6)],
        Rrbe: [KeyOutcome(key) for key in (0, 2, 4, 6)],
        Sske: [DONE],
        Load: [LoadOutcome(A, 1), LoadOutcome(B, 1), LoadOutcome(bytes(32), 1), FAULT],
        Store: [DONE, FAULT, ProgramInterruption(0x05), MachineCheck()],
        DeviceLoad: [LoadOutcome(A, 128), LoadOutcome(B, 128), IoError()],
        DeviceStore: [DONE, IoError()],
    }[type(operations[i].call)]
    changed = list(operations)
    changed[i] = replace(operations[i], answer=answers[choose(len(answers))])
    return changed


def drawn(choose: Choose) -> tuple[Block, list[Operation]]:
    """A history, true or falsified."""
    block = start(choose)
    operations = executed(block, choose)
    return block, falsified(operations, choose) if choose(2) else operations


# Brute force.


def settled(blocks: dict[Block, None]) -> dict[Block, None]:
    """All that the host can make of any of them."""
    found, waiting = dict(blocks), list(blocks)
    for block in waiting:
        for moved in moves(block):
            if moved not in found:
                found[moved] = None
                waiting.append(moved)
    return found


def explains(block: Block, order: Sequence[Operation]) -> bool:
    """Whether the commands, in this order, are answered so."""
    blocks = {block: None}
    for operation in order:
        after: dict[Block, None] = {}
        for before in settled(blocks):
            following, answer = apply(before, operation.call)
            if operation.answer is None or agree(answer, operation.answer):
                after[following] = None
        blocks = after
    return bool(blocks)


def orders(operations: list[Operation]) -> Iterator[Sequence[Operation]]:
    """All permutations that respect real time, with every subset of the open commands."""
    closed = [o for o in operations if o.answered is not None]
    never = [o for o in operations if o.answered is None]
    for count in range(len(never) + 1):
        for some in combinations(never, count):
            for order in permutations([*closed, *some]):
                if all(
                    later.answered is None or later.answered > earlier.submitted
                    for i, earlier in enumerate(order)
                    for later in order[i + 1 :]
                ):
                    yield order


def prefix(operations: list[Operation], time: int) -> list[Operation]:
    """What there was up to a moment."""
    return [
        o
        if o.answered is not None and o.answered <= time
        else replace(o, answered=None, answer=None)
        for o in operations
        if o.submitted <= time
    ]


def brute_force(block: Block, operations: list[Operation]) -> int | None:
    """The end of the smallest prefix that no order explains."""
    ends = sorted(o.answered for o in operations if o.answered is not None)
    for time in ends:
        if not any(explains(block, order) for order in orders(prefix(operations, time))):
            return time
    return None


def searched(block: Block, operations: list[Operation]) -> int | None:
    """The same by the checker."""
    search = Search(block)
    events = [(o.submitted, i, False) for i, o in enumerate(operations)]
    events += [(o.answered, i, True) for i, o in enumerate(operations) if o.answered is not None]
    for time, i, ended in sorted(events):
        answer = operations[i].answer
        if not ended:
            search.submit(i, operations[i].call)
        elif answer is not None and not search.answer(i, answer):
            return time
    return None


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.integers(0, 719), min_size=1, max_size=60))
def test_the_checker_agrees_with_brute_force(numbers: list[int]) -> None:
    rest = iter(numbers)
    block, operations = drawn(lambda bound: next(rest, 0) % bound)
    assert searched(block, operations) == brute_force(block, operations)


def test_so_it_does_on_thousands_of_histories_of_both_kinds() -> None:
    random, verdicts = Random("histories"), Counter[str]()
    for _ in range(3000):
        block, operations = drawn(lambda bound: random.randrange(bound))
        found = searched(block, operations)
        assert found == brute_force(block, operations)
        verdicts["explained" if found is None else "not explained"] += 1
        verdicts["open"] += any(o.answered is None for o in operations)
        verdicts["overlapping"] += any(map(overlap, operations[1:], operations))
    assert min(verdicts.values()) > 400, verdicts
    assert len(verdicts) == 4


# One page after the other.


def test_an_array_is_a_command_for_each_of_its_pages() -> None:
    array = EssaArray.of(np.array([3, 9, 1, 0], np.uint8), np.array([1, 2, 1, 5], np.uint32))
    history = History()
    assert list(history.parts(Event(0, array))) == [
        Submitted(1, 1, Essas((3, 1))),
        Submitted(1, 2, Essas((9,))),
        Submitted(1, 5, Essas((0,))),
    ]
    told = EssaArrayOutcome(bytes([0x00, 0x86, 0x0C, 0x85]))
    assert list(history.parts(Event(0, array, told))) == [
        Answered(1, 1, States((0x00, 0x0C))),
        Answered(1, 2, States((0x86,))),
        Answered(1, 5, States((0x85,))),
    ]


def test_the_number_of_a_fault_is_no_part_of_its_answer() -> None:
    history = History()
    assert list(history.parts(Event(1, Load(4, 0, 32)))) == [Submitted(1, 4, Load(4, 0, 32))]
    assert list(history.parts(Event(1, Load(4, 0, 32), FaultPending(7)))) == [Answered(1, 4, FAULT)]


def test_an_answer_to_what_was_submitted_before_anybody_listened_is_nothing() -> None:
    assert list(History().parts(Event(0, Iske(1), KeyOutcome(0)))) == []


# Commands that were never answered.


@pytest.mark.parametrize("told", [0x00, 0x0C])
def test_an_open_command_may_or_may_not_have_taken_effect(told: int) -> None:
    search = Search(Block("S", "r"))
    search.submit(1, Essa(3, 0))  # nobody hears of it again
    search.submit(2, Essa(0, 0))
    assert search.answer(2, EssaOutcome(told))


def test_but_not_twice() -> None:
    search = Search(Block("S", "r"))
    search.submit(1, Essa(3, 0))
    for number, call, told, explained in (
        (2, Essa(0, 0), 0x0C, True),
        (3, Essa(1, 0), 0x0C, True),
        (4, Essa(0, 0), 0x0C, False),
    ):
        search.submit(number, call)
        assert search.answer(number, EssaOutcome(told)) is explained


def test_what_was_seen_is_known() -> None:
    """Content that nobody knew is known from when somebody has looked at it."""
    search = Search(Block("S", "p", data=None))
    assert search.see(lambda block: replace(block, data=A * 128) if block.name == "Sr" else None)
    search.submit(1, Load(0, 0, 32))
    assert not search.answer(1, LoadOutcome(B, 1))


# The host that is shipped.


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_host_does_is_explained(seed: int) -> None:
    """Commands of three issuers, stages and completions in any order, damaged copies included."""
    random = Random(seed)
    world = make_world(Mode.SEED, frames=2, slots=3, pages=3, vcpus=2)
    searches = [Search(Block()) for _ in range(3)]
    number, open_commands, states = 0, dict[int, tuple[int, int]](), set[str]()

    def answered(issuer: int, outcome: object) -> None:
        which, pfn = open_commands.pop(issuer)
        told = FAULT if isinstance(outcome, FaultPending) else outcome
        assert searches[pfn].answer(which, told)  # type: ignore[arg-type]

    for _ in range(700):
        issuer, act, stages = random.randrange(3), random.random(), world.host.enabled()
        if act < 0.5 and issuer not in open_commands:
            calls = [c for c in CALLS if isinstance(c, DeviceLoad | DeviceStore) == (issuer == 2)]
            call = random.choice([c for c in calls if not isinstance(c, Essas)])
            number, pfn = number + 1, random.randrange(3)
            command = replace(call, pfn=pfn)  # type: ignore[arg-type,type-var]
            searches[pfn].submit(number, command)
            open_commands[issuer] = number, pfn
            outcome = world.execute(command, issuer)
            if outcome is not None:
                answered(issuer, outcome)
        elif act < 0.85 and stages:
            stage = random.choice(stages)
            world.run(stage.kind, stage.number)
        elif act < 0.98 and world.flights:
            world.land(random.choice(list(world.flights)), ok=random.random() < 0.95)
        elif stages:
            world.host.begin_eviction(world.guest, random.randrange(3))
        for parked in list(world.completed):
            answered(parked, world.completed.pop(parked))
        for pfn, search in enumerate(searches):
            code, key = world.host.state_byte(world.guest, pfn), world.host.storage_key(1, pfn)
            content = world.host.content(world.guest, pfn)
            states.add(LETTERS[code & 0xF])
            assert search.see(
                lambda block, code=code, key=key, content=content: (  # type: ignore[misc]
                    block
                    if (block.code, block.key) == (code & 0xF, key)
                    and content in (None, block.data)
                    else None
                )
            )
    assert states >= set(STATES) - {"Uz"}
