"""A hostile client sends what no honest peer sends: clear statuses, no bug, nothing seen beside it.

Method: a real host with two guests at work; the same as `python -m tests.hostile`, but shorter.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.essa.v1 import essa_pb2 as pb
from tests.hostile.messages import Generator
from tests.hostile.run import beset

MESSAGES = 2_000


@pytest.mark.process
def test_a_hostile_client_gets_clear_statuses_and_nobody_else_notices(tmp_path: Path) -> None:
    after = beset(tmp_path, MESSAGES, seed=1, operations=400)
    assert after.wrong() == []
    assert after.told.calls == MESSAGES
    assert after.told.statuses["OpenGuest"]["INVALID_ARGUMENT"] > 10
    assert after.told.statuses["Execute"]["INVALID_ARGUMENT"] > 10
    assert [report["requests"] for report in after.honest] == [400, 400]


def test_messages_are_the_same_from_the_same_seed() -> None:
    session = pb.Session(token=bytes(16), incarnation=1)
    kind = pb.ExecuteRequest.DESCRIPTOR
    one, other = Generator(7, session), Generator(7, session)
    drawn = [one.message(kind) for _ in range(200)]
    assert drawn == [other.message(kind) for _ in range(200)]
    assert len(set(drawn)) > 100
