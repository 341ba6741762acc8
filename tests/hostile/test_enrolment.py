"""An authority is sent what no honest peer sends: it says so, and gives nobody anything.

Method: a served authority, and a token that nobody has spent in requests that lack something else;
afterwards its directory and its tokens are as before, and the token is as good as ever.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from essa_cli.certificates.authority import new_key
from essa_cli.certificates.enrolment import ENROL_BYTES_MAX, REQUEST_BYTES_MAX, key_of
from essa_cli.certificates.tokens import TOKEN_BYTES
from shared.errors import InvalidRequestError
from shared.essa.v1 import enrolment_pb2 as pb
from shared.essa.v1 import essa_pb2
from shared.identity import Identity, Role
from tests.hostile.calls import Answer, ask, connect_unbounded
from tests.hostile.messages import Generator
from tests.hostile.statuses import (
    ENROLMENT,
    ENROLMENT_CLEAR,
    ENROLMENT_MESSAGES,
    ENROLMENT_METHODS,
    ENROLMENT_NAMES,
    ENROLMENT_REQUESTS,
    METHODS,
    PLACES,
    Table,
)
from tests.hostile.wire import (
    BYTES,
    IGNORED,
    MALFORMED,
    OVERSIZE,
    UNKNOWN,
    tag,
    varint,
    wrong_insides,
    wrong_types,
)
from tests.security.place import Place, request_of

MESSAGES = 1000
AT_A_TIME = 8
ENROL = next(method for method in ENROLMENT_METHODS if method.name == "Enrol")


def request_at_odds(wrong: str) -> bytes:
    """A certification request that lacks one thing."""
    good = request_of(new_key())
    version = good.index(b"\2\1\0") + 2
    return {
        "none": b"",
        "nonsense": b"nonsense",
        "unsigned": good[:-64] + bytes(byte ^ 0xFF for byte in good[-64:]),
        "curve": request_of(ec.generate_private_key(ec.SECP384R1())),
        "version": good[:version] + b"\1" + good[version + 1 :],
        "long": good + bytes(REQUEST_BYTES_MAX),
    }[wrong]


TOKENS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda token: b"",
    "short": lambda token: token[:-1],
    "long": lambda token: token + b"\0",
    "forged": lambda token: os.urandom(TOKEN_BYTES),
}
NAMES = {
    "empty": "",
    "space": "a b",
    "path": "../web-1",
    "newline": "web-1\n",
    "foreign": "wéb-1",
    "long": "x" * 65,
    "taken": "taken",
}


class Besieged:
    """A served authority. granted: a request whose token is spent. fresh: one that would be
    granted, if it were sent."""

    def __init__(self, place: Place, channel: Any) -> None:
        self._place, self._channel = place, channel
        assert place.authority.remember(Identity(Role.GUEST, "taken"))
        self.granted = self._request("granted", Role.HOST)
        assert place.tokens.trade(
            self.granted.token, self.granted.name, key_of(self.granted.request)
        )
        self.fresh = self._request("web-1", Role.GUEST)
        self._before = self._files()

    def _request(self, name: str, role: Role) -> pb.EnrolRequest:
        return pb.EnrolRequest(
            token=self._place.secret(role), name=name, request=request_of(new_key())
        )

    def but(self, **fields: Any) -> bytes:
        """The fresh request but for these fields."""
        request = pb.EnrolRequest()
        request.CopyFrom(self.fresh)
        for name, value in fields.items():
            setattr(request, name, value)
        return request.SerializeToString()

    async def ask(self, raw: bytes, method: Any = ENROL) -> Answer:
        """What it says to these bytes."""
        return await ask(self._channel, method, raw)

    def _files(self) -> dict[Path, bytes]:
        """All that it has given out and spent, and the tokens that lie there."""
        place = self._place
        folders = (place.authority.directory, *place.places.values())
        found = (path for folder in folders for path in folder.rglob("*"))
        return {path: path.read_bytes() for path in found if path.is_file()}

    async def check(self) -> None:
        """Nothing was spent or given out, and the token is good."""
        assert self._files() == self._before
        assert await self.ask(self.fresh.SerializeToString()) == Answer("OK")
        assert self._files() != self._before


def besieged(directory: Path, test: Callable[[Besieged], Awaitable[None]]) -> None:
    """Run a test against a served authority, to which nothing must happen."""

    async def run() -> None:
        place = Place(directory)
        async with place.served() as address:
            channel = connect_unbounded(address, place.authority.pem)
            try:
                siege = Besieged(place, channel)
                await test(siege)
                await siege.check()
            finally:
                await channel.close(None)

    asyncio.run(run())


def expected(table: Table, case: str) -> Answer | None:
    """Of the one method there is."""
    return table[ENROL.full_name][case]


def test_every_method_has_its_rows() -> None:
    tables = (ENROLMENT, ENROLMENT_REQUESTS, ENROLMENT_NAMES, ENROLMENT_MESSAGES, ENROLMENT_CLEAR)
    for table in tables:
        assert set(table) == {method.full_name for method in ENROLMENT_METHODS}


def test_requests_that_lack_one_thing(tmp_path: Path) -> None:
    async def test(siege: Besieged) -> None:
        for case in ENROLMENT[ENROL.full_name]:
            token = siege.granted.token if case == "spent" else TOKENS[case](siege.fresh.token)
            answer = await siege.ask(siege.but(token=token))
            assert answer == expected(ENROLMENT, case), f"token: {case}"
        for case in ENROLMENT_REQUESTS[ENROL.full_name]:
            answer = await siege.ask(siege.but(request=request_at_odds(case)))
            assert answer == expected(ENROLMENT_REQUESTS, case), f"request: {case}"
        for case in ENROLMENT_NAMES[ENROL.full_name]:
            answer = await siege.ask(siege.but(name=NAMES[case]))
            assert answer == expected(ENROLMENT_NAMES, case), f"name: {case}"

    besieged(tmp_path, test)


def test_what_is_no_message_or_too_long_is_refused(tmp_path: Path) -> None:
    async def test(siege: Besieged) -> None:
        fresh = siege.but()
        malformed = expected(ENROLMENT_MESSAGES, "malformed")
        insides = dict(wrong_insides(ENROL.input_type))
        assert insides
        for form, more in (MALFORMED | insides).items():
            assert await siege.ask(fresh + more) == malformed, form
        oversize = expected(ENROLMENT_MESSAGES, "oversize")
        padded = fresh + tag(UNKNOWN, BYTES) + varint(ENROL_BYTES_MAX) + bytes(ENROL_BYTES_MAX)
        assert await siege.ask(fresh + OVERSIZE) == oversize
        assert await siege.ask(padded[: ENROL_BYTES_MAX + 1]) == oversize
        # As long as may be, and no longer: it is looked at, and its end is missing.
        assert await siege.ask(padded[:ENROL_BYTES_MAX]) == malformed

    besieged(tmp_path, test)


def test_what_nobody_knows_is_ignored(tmp_path: Path) -> None:
    async def test(siege: Besieged) -> None:
        more = b"".join(IGNORED.values()) + wrong_types(ENROL.input_type)
        assert await siege.ask(siege.granted.SerializeToString() + more) == Answer("OK")
        assert await siege.ask(siege.but(token=b"") + more) == expected(ENROLMENT, "empty")

    besieged(tmp_path, test)


def test_an_authority_is_no_host(tmp_path: Path) -> None:
    async def test(siege: Besieged) -> None:
        for method in METHODS:
            assert await siege.ask(b"", method) == PLACES[method.full_name]["elsewhere"]

    besieged(tmp_path, test)


def test_drawn_messages_get_clear_statuses(tmp_path: Path) -> None:
    """Method: drawn from a request that was granted, so that only the same is granted again, and
    from one of a fresh token that is signed with no key of anybody."""
    told: Counter[str] = Counter()

    async def test(siege: Besieged) -> None:
        unsigned = pb.EnrolRequest.FromString(siege.but(request=request_at_odds("unsigned")))
        for right in (siege.granted, unsigned):
            generator = Generator(1, essa_pb2.Session(), right.name, "taken", [right])
            numbers = iter(range(MESSAGES))

            async def caller(generator: Generator, numbers: Any) -> None:
                for number in numbers:
                    method = ENROLMENT_METHODS[number % len(ENROLMENT_METHODS)]
                    raw = generator.message(method.input_type)
                    answer = await siege.ask(raw, method)
                    told[answer.status] += 1
                    assert answer.status in ENROLMENT_CLEAR[method.full_name], (answer, raw[:60])

            async with asyncio.TaskGroup() as group:
                for _ in range(AT_A_TIME):
                    group.create_task(caller(generator, numbers))

    besieged(tmp_path, test)
    assert told.total() == 2 * MESSAGES
    assert min(told[status] for status in ("OK", "INVALID_ARGUMENT", "UNAUTHENTICATED")) > 10


def test_no_bit_of_a_certification_request_makes_another_key() -> None:
    """Nor does it make a bug; some bits nobody reads."""
    good = request_of(new_key())
    key = key_of(good)
    refused = 0
    for bit in range(8 * len(good)):
        wrong = bytearray(good)
        wrong[bit // 8] ^= 1 << bit % 8
        try:
            assert key_of(bytes(wrong)) == key
        except InvalidRequestError:
            refused += 1
    assert refused > 8 * len(good) - 8
