"""Every command and outcome survives the wire, and what no machine could hold is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import commands as c
from shared.arch import PAGE_SIZE
from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc import codec

pfns = st.integers(0, c.PFN_MAX)
bytes_256 = st.integers(0, 255)


@st.composite
def transfers(draw: st.DrawFn, kind: type[c.Load] | type[c.DeviceLoad]) -> c.Load:
    offset = draw(st.integers(0, PAGE_SIZE - 1))
    return kind(draw(pfns), offset, draw(st.integers(1, PAGE_SIZE - offset)))


@st.composite
def stores(draw: st.DrawFn, kind: type[c.Store] | type[c.DeviceStore]) -> c.Store:
    data = draw(st.binary(min_size=1, max_size=64))
    repeat = draw(st.integers(1, PAGE_SIZE // len(data)))
    offset = draw(st.integers(0, PAGE_SIZE - len(data) * repeat))
    return kind(draw(pfns), min(offset, PAGE_SIZE - 1), data, repeat)


@st.composite
def arrays(draw: st.DrawFn) -> c.EssaArray:
    orcs = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 7, 15]), min_size=1, max_size=50))
    pages = draw(st.lists(pfns, min_size=len(orcs), max_size=len(orcs)))
    return c.EssaArray.of(np.array(orcs, np.uint8), np.array(pages, np.uint32), draw(st.booleans()))


any_command = st.one_of(
    st.builds(c.Essa, st.integers(0, 15), pfns, st.booleans()),
    arrays(),
    transfers(c.Load),
    transfers(c.DeviceLoad),
    stores(c.Store),
    stores(c.DeviceStore),
    st.builds(c.Iske, pfns),
    st.builds(c.Sske, pfns, st.integers(0, 127).map(lambda key: key << 1)),
    st.builds(c.Rrbe, pfns),
)

any_outcome = st.one_of(
    st.builds(c.EssaOutcome, bytes_256),
    st.builds(c.EssaArrayOutcome, st.binary(max_size=100)),
    st.builds(c.LoadOutcome, st.binary(min_size=1, max_size=PAGE_SIZE)),
    st.builds(c.LoadOutcome, st.binary(min_size=32, max_size=32), st.integers(1, 128)),
    st.just(c.DONE),
    st.builds(c.KeyOutcome, bytes_256),
    st.builds(c.ProgramInterruption, bytes_256),
    st.builds(c.FaultPending, st.integers(1, 2**64 - 1)),
    st.just(c.IoError()),
    st.just(c.MachineCheck()),
)

vcpus = st.integers(0, 2**32 - 1)
numbers = st.integers(0, 2**64 - 1)


def plain(command: c.Command) -> tuple[Any, ...]:
    """Comparable form; EssaArray itself has no equality."""
    if isinstance(command, c.EssaArray):
        orcs, pages = command.orcs.tolist(), command.pfns.tolist()
        return (c.EssaArray, orcs, pages, command.problem_state)
    return (type(command), command)


def over_the_wire(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


@given(st.lists(st.tuples(vcpus, numbers, any_command), min_size=1, max_size=20))
def test_commands_round_trip(batch: list[codec.Numbered]) -> None:
    (message,) = codec.messages_from_commands(batch)
    result = codec.commands_from_message(over_the_wire(message))
    assert [(v, n, plain(command)) for v, n, command in result] == [
        (v, n, plain(command)) for v, n, command in batch
    ]


@given(st.lists(st.tuples(vcpus, numbers, any_outcome), min_size=1, max_size=20))
def test_outcomes_round_trip(batch: list[codec.Answered]) -> None:
    (message,) = codec.messages_from_outcomes(batch)
    assert codec.outcomes_from_message(over_the_wire(message)) == batch


@given(st.lists(st.builds(c.DiscardFault, numbers, vcpus, numbers), max_size=20))
def test_faults_round_trip(faults: list[c.DiscardFault]) -> None:
    message = codec.message_from_faults(faults)
    assert codec.faults_from_message(over_the_wire(message)) == faults


def test_every_command_and_outcome_class_has_a_place_on_the_wire() -> None:
    commands = {field.name for field in pb.NumberedCommand.DESCRIPTOR.oneofs[0].fields}
    outcomes = {field.name for field in pb.NumberedOutcome.DESCRIPTOR.oneofs[0].fields}
    assert commands == set(codec._COMMAND_DECODERS)
    assert commands == {name for name, _ in codec._COMMAND_ENCODERS.values()}
    assert set(codec._COMMAND_ENCODERS) == set(c.Command.__args__)
    assert outcomes == set(codec._OUTCOME_DECODERS)
    assert set(codec._OUTCOME_ENCODERS) == set(c.Outcome.__args__)


def numbered(**command: Any) -> pb.NumberedCommand:
    return pb.NumberedCommand(vcpu=0, number=1, **command)


MALFORMED = {
    "no command": numbered(),
    "orc 16": numbered(essa=pb.Essa(orc=16)),
    "empty array": numbered(essa_array=pb.EssaArray()),
    "array with orc 5": numbered(essa_array=pb.EssaArray(orcs=b"\x05", pfns=bytes(4))),
    "array with orc 16": numbered(essa_array=pb.EssaArray(orcs=b"\x10", pfns=bytes(4))),
    "half a pfn": numbered(essa_array=pb.EssaArray(orcs=b"\x00", pfns=bytes(6))),
    "more orcs than pfns": numbered(essa_array=pb.EssaArray(orcs=bytes(2), pfns=bytes(4))),
    "array too long": numbered(essa_array=pb.EssaArray(orcs=bytes(65_537), pfns=bytes(4 * 65_537))),
    "load of nothing": numbered(load=pb.Load(pfn=1)),
    "load past the page": numbered(load=pb.Load(offset=4095, length=2)),
    "store of nothing": numbered(store=pb.Store(pfn=1)),
    "store past the page": numbered(store=pb.Store(data=bytes(32), repeat=129)),
    "store zero times": numbered(store=pb.Store(data=b"x", repeat=0)),
    "device store past the page": numbered(device_store=pb.Store(offset=1, data=bytes(4096))),
    "key with bit 0x01": numbered(sske=pb.Sske(key=0x03)),
    "key of nine bits": numbered(sske=pb.Sske(key=0x100)),
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_commands_are_refused(message: pb.NumberedCommand) -> None:
    with pytest.raises(InvalidRequestError):
        codec.commands_from_message(pb.ExecuteRequest(commands=[message]))


def test_an_envelope_holds_at_most_so_many_commands() -> None:
    message = pb.ExecuteRequest()
    for _ in range(codec.ENVELOPE_COMMANDS_MAX + 1):
        message.commands.add(essa=pb.Essa())
    with pytest.raises(InvalidRequestError, match="65536"):
        codec.commands_from_message(message)


@pytest.mark.parametrize(
    "message",
    [
        pb.NumberedOutcome(vcpu=0, number=1),
        pb.NumberedOutcome(loaded=pb.LoadedData()),
        pb.NumberedOutcome(loaded=pb.LoadedData(data=bytes(32), repeat=129)),
        pb.NumberedOutcome(loaded=pb.LoadedData(data=b"x", repeat=0)),
    ],
)
def test_malformed_outcomes_are_refused(message: pb.NumberedOutcome) -> None:
    with pytest.raises(InvalidRequestError):
        codec.outcomes_from_message(pb.ExecuteResponse(outcomes=[message]))


def test_large_batches_are_split_in_order_and_below_the_bound() -> None:
    store = c.Store(0, 0, bytes(4096))
    batch = [(vcpu, 1, replace(store, pfn=vcpu)) for vcpu in range(1024)]
    messages = codec.messages_from_commands(batch)
    assert len(messages) > 1
    assert max(message.ByteSize() for message in messages) < 2 << 20
    assert [item for m in messages for item in codec.commands_from_message(m)] == batch
    outcomes: list[codec.Answered] = [(v, 1, c.LoadOutcome(bytes(4096))) for v in range(1024)]
    replies = codec.messages_from_outcomes(outcomes)
    assert len(replies) > 1
    assert [item for m in replies for item in codec.outcomes_from_message(m)] == outcomes


def test_nothing_makes_no_message() -> None:
    assert codec.messages_from_commands([]) == []
    assert codec.messages_from_outcomes([]) == []


@pytest.mark.parametrize(
    "outcome", [c.EssaOutcome(0x0F), c.ProgramInterruption(6), c.MachineCheck()]
)
def test_single_essas_answer_like_numbered_ones(outcome: c.Outcome) -> None:
    message = over_the_wire(codec.essa_response_from_outcome(outcome))
    assert codec.outcome_from_message(message) == outcome
