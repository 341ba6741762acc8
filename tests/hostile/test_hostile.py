"""A hostile client sends what no honest peer sends: clear statuses, no bug, nothing seen beside it.

Method: a real host with two guests at work and a quiet one; the same as `python -m tests.hostile`,
but shorter.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.fault_codec import fault_from_message, kinds, wire_kind
from tests.hostile.honest import NAMES
from tests.hostile.messages import WRONG_FAULTS, Generator, may_be_injected
from tests.hostile.run import beset
from tests.hostile.statuses import METHODS

MESSAGES = 3_000
OPERATIONS = 200


@pytest.mark.process
def test_a_hostile_client_gets_clear_statuses_and_nobody_else_notices(tmp_path: Path) -> None:
    lines: list[str] = []
    after = beset(tmp_path, MESSAGES, seed=1, operations=OPERATIONS, tell=lines.append)
    assert after.wrong == []
    assert after.told.calls == MESSAGES
    assert lines
    for method in METHODS:
        assert after.told.statuses[method.name]["INVALID_ARGUMENT"] > 10, method.name
    assert after.told.statuses["OpenGuest"]["ALREADY_EXISTS"]
    assert after.told.statuses["EvictPages"]["OK"]
    assert set(after.told.statuses["InjectFault"]) <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    for name in NAMES:
        assert after.work[name] >= OPERATIONS


def _generator() -> Generator:
    return Generator(7, pb.Session(token=bytes(16), incarnation=1), "own", "another")


def test_messages_are_the_same_from_the_same_seed() -> None:
    kind = pb.ExecuteRequest.DESCRIPTOR
    one, other = _generator(), _generator()
    drawn = [one.message(kind) for _ in range(200)]
    assert drawn == [other.message(kind) for _ in range(200)]
    assert len(set(drawn)) > 100


def test_no_fault_is_drawn_that_may_be_injected() -> None:
    generator = _generator()
    drawn = [generator.message(pb.InjectFaultRequest.DESCRIPTOR) for _ in range(2_000)]
    assert not any(map(may_be_injected, drawn))
    right = pb.FaultSpec(kind=pb.FAULT_KIND_EVICT)
    assert may_be_injected(pb.InjectFaultRequest(fault=right).SerializeToString())


@pytest.mark.parametrize("wrong", WRONG_FAULTS, ids=lambda wrong: " ".join(str(wrong).split())[:40])
def test_a_fault_out_of_its_bounds_is_refused_of_every_kind(wrong: pb.FaultSpec) -> None:
    for kind in kinds():
        fault = pb.FaultSpec(kind=wire_kind(kind))
        fault.MergeFrom(wrong)
        with pytest.raises(InvalidRequestError):
            fault_from_message(fault)
