"""One-time tokens: what they are traded for, once, and what else is refused."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog.testing
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from essa_cli.certificates import enrol, enrolment, tokens
from essa_cli.certificates.authority import (
    AUTHORITY_HOST,
    NAMES,
    Authority,
    new_key,
)
from essa_cli.certificates.files import write_new
from essa_cli.certificates.tokens import Token, Tokens, claim, waiting
from essa_cli.errors import CliError
from shared.errors import InvalidRequestError, NameTakenError, TokenRefusedError
from shared.essa.v1 import enrolment_pb2 as pb
from shared.identity import Identity, Role
from shared.rpc import tls
from shared.rpc.channel import Address, HostUnreachableError, connect
from shared.rpc.tls import identity_of, load_tls
from tests.process.host_process import essa_here
from tests.security.place import Place, request_of

KEY = new_key().public_key()
NOBODY = Address(host="127.0.0.1", port=1)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# Trading.


def test_a_token_says_the_role_and_its_holder_the_name(place: Place) -> None:
    guest = x509.load_pem_x509_certificate(place.tokens.trade(place.secret(), "web-1", KEY))
    assert identity_of(guest) == Identity(Role.GUEST, "web-1")
    assert guest.public_key() == KEY
    host = x509.load_pem_x509_certificate(place.tokens.trade(place.secret(Role.HOST), "h", KEY))
    assert identity_of(host) == Identity(Role.HOST, "h")
    names = host.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["h", "localhost"]


def test_a_token_is_spent_once_and_by_a_new_process_too(place: Place) -> None:
    secret = place.secret()
    pem = place.tokens.trade(secret, "web-1", KEY)
    for every in (place.tokens, Tokens(place.authority, 1)):
        assert every.trade(secret, "web-1", KEY) == pem
        for name, key in (("web-2", KEY), ("web-1", new_key().public_key())):
            with pytest.raises(TokenRefusedError, match="spent already"):
                every.trade(secret, name, key)


def test_what_is_refused_spends_nothing(place: Place) -> None:
    secret = place.secret()
    with pytest.raises(TokenRefusedError, match="none of this authority"):
        place.tokens.trade(bytes(32), "web-1", KEY)
    with pytest.raises(InvalidRequestError, match="name is 'a b'"):
        place.tokens.trade(secret, "a b", KEY)
    place.authority.remember(Identity(Role.GUEST, "taken"))
    with pytest.raises(NameTakenError):
        place.tokens.trade(secret, "taken", KEY)
    assert place.tokens.trade(secret, "web-1", KEY)


@pytest.mark.parametrize("name", ["..", AUTHORITY_HOST, AUTHORITY_HOST.upper()])
def test_nobody_is_called_what_the_authority_is_called(place: Place, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="of a host it must be a host's name"):
        place.tokens.trade(place.secret(Role.HOST), name, KEY)


def test_nobody_is_called_as_somebody_else_is(place: Place, tmp_path: Path) -> None:
    """A client looks at the name alone: neither at its case nor at the role."""
    hosts = place.secret(Role.HOST)
    place.tokens.fill(tmp_path / "operators", Role.OPERATOR, 1)
    (operator,) = waiting(tmp_path / "operators")
    operators = Token.read(operator).secret
    result = essa_here(
        *("certs", "issue", str(place.authority.directory), "--role", "host", "--name", "big"),
        *("--san", "db.example", "--out", str(tmp_path / "big")),
    )
    assert result.returncode == 0
    for name in ("big", "BIG", "db.example", "DB.Example"):
        for secret in (hosts, operators):
            with pytest.raises(NameTakenError):
                place.tokens.trade(secret, name, KEY)
    assert place.tokens.trade(hosts, "h", KEY)
    with pytest.raises(NameTakenError):
        place.tokens.trade(operators, "H", KEY)
    assert place.tokens.trade(operators, "me", KEY)
    assert place.tokens.trade(place.secret(), "big", KEY), "nobody calls guests"


def test_a_name_that_cannot_be_noted_is_given_to_nobody(place: Place, tmp_path: Path) -> None:
    (place.authority.directory / NAMES).write_text("in the way")
    issue = ("certs", "issue", str(place.authority.directory), "--role", "guest", "--name", "g")
    result = essa_here(*issue, "--out", str(tmp_path / "g"))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "names: " in result.stderr
    assert not (tmp_path / "g").exists()


def test_a_trade_that_was_broken_off_is_gone_on_with(place: Place) -> None:
    secret = place.secret()
    place.tokens.trade(secret, "web-1", KEY)
    (spent,) = (place.authority.directory / "spent").iterdir()
    spent.unlink()  # as if the authority had stopped after it gave the name out
    assert place.tokens.trade(secret, "web-1", KEY)


def test_a_token_is_traded_once_by_several_authorities_on_one_directory(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method: while one trades, another begins, and is given time."""
    secret, other = place.secret(), Tokens(place.authority, 1)
    issue, begun = Authority.issue, list[Future[bytes]]()

    def issue_later(*args: Any, **options: Any) -> bytes:
        if not begun:
            begun.append(threads.submit(other.trade, secret, "web-2", KEY))
            wait(begun, 0.2)
        return issue(*args, **options)

    monkeypatch.setattr(Authority, "issue", issue_later)
    with ThreadPoolExecutor(1) as threads:
        assert place.tokens.trade(secret, "web-1", KEY)
        with pytest.raises(TokenRefusedError, match="spent already"):
            begun[0].result()
    given = [path.name for path in (place.authority.directory / NAMES).iterdir()]
    assert given == ["guest.web-1"], "who was too late has taken no name"


@pytest.mark.parametrize("folder", ["tokens", "spent"])
@pytest.mark.parametrize("record", [b"", b"\xff", b"[]", b'{"name": "web-1"}'])
def test_a_token_whose_record_is_damaged_is_refused(
    place: Place, folder: str, record: bytes
) -> None:
    secret = place.secret()
    place.tokens.trade(secret, "web-1", KEY)
    (place.authority.directory / folder / hashlib.sha256(secret).hexdigest()).write_bytes(record)
    with pytest.raises(TokenRefusedError, match="the record of the token is damaged"):
        place.tokens.trade(secret, "web-1", KEY)


# Files.


def _full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_private_from_its_first_byte_and_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    sync = os.fsync

    def look(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    write_new(tmp_path / "key", b"secret", 0o600)
    assert modes[0] == 0o600
    with pytest.raises(CliError, match="key exists already; nothing is replaced"):
        write_new(tmp_path / "key", b"other", 0o600)
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(CliError, match="other cannot be written: No space left"):
        write_new(tmp_path / "other", b"secret", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").read_bytes() == b"secret"


# Tokens on their way.


def test_of_many_that_want_a_token_so_many_get_one_as_there_are(
    place: Place, tmp_path: Path
) -> None:
    guests = place.places[Role.GUEST]
    outs = [tmp_path / f"out-{n}" for n in range(12)]
    with ThreadPoolExecutor(12) as threads:
        got = list(threads.map(lambda out: claim(guests, out), outs))
    assert sum(got) == 3
    assert not list(guests.iterdir())
    secrets = {Token.read(out).secret for out in outs if out.exists()}
    assert len(secrets) == 3
    place.tokens.fill(guests, Role.GUEST, 3)
    assert len(waiting(guests)) == 3


def test_what_is_of_no_use_is_taken_away(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other")
    guests = other.places[Role.GUEST]
    place.tokens.fill(guests, Role.GUEST, 5)
    (good, spent) = [path for path in waiting(guests) if place.authority.pem in path.read_bytes()]
    place.tokens.trade(Token.read(spent).secret, "web-1", KEY)
    earlier = Token(Token.read(good).secret, other.authority.pem)
    (guests / "earlier.token").write_bytes(earlier.text())
    (guests / "nonsense.token").write_text("nonsense")
    (guests / "link.token").symlink_to(good)
    (guests / "directory.token").mkdir()
    os.mkfifo(guests / "pipe.token")
    place.tokens.clear(guests)
    assert [path.name for path in waiting(guests)] == sorted([good.name, "directory.token"])


@pytest.mark.parametrize("name", [".1.taken", ".1.draft"])
def test_what_a_killed_process_has_left_is_taken_away(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    left = place.places[Role.GUEST] / name
    left.write_text("secret")
    place.tokens.clear(left.parent)
    assert left.exists(), "somebody may be at it"
    monkeypatch.setattr(tokens, "LEFT_SECONDS", -1.0)
    place.tokens.clear(left.parent)
    assert not left.exists()
    assert len(waiting(left.parent)) == 3


def test_what_is_no_token_is_passed_over(place: Place, tmp_path: Path) -> None:
    guests = place.places[Role.GUEST]
    one, cut, good = waiting(guests)
    cut.write_bytes(cut.read_bytes()[:-100])
    one.unlink()
    one.symlink_to(good)
    (guests / "0.token").mkdir()
    os.mkfifo(guests / "1.token")
    assert claim(guests, tmp_path / "token")
    assert not good.exists()
    assert not claim(guests, tmp_path / "another")
    for path, text in ((cut, "holds no token"), (guests / "1.token", "cannot be read: it is no")):
        with pytest.raises(CliError, match=text):
            claim(path, tmp_path / "another")
        assert path.exists()


def test_a_token_that_cannot_be_put_anywhere_stays(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests = place.places[Role.GUEST]
    before = sorted(guests.iterdir())
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(CliError, match="token: No space left"):
        claim(guests, tmp_path / "out" / "token")
    monkeypatch.undo()
    (tmp_path / "token").write_text("of another process that is to have the same certificate")
    assert claim(guests, tmp_path / "token")
    assert sorted(guests.iterdir()) == before
    assert not list((tmp_path / "out").iterdir())


def test_a_directory_that_may_not_be_read_is_not_taken_for_an_empty_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    guests = place.places[Role.GUEST]
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(CliError, match="cannot be read: Permission denied"):
        claim(guests, guests / "out")
    with pytest.raises(CliError, match="cannot be filled: Permission denied"):
        place.tokens.fill(guests, Role.GUEST, 3)
    with pytest.raises(CliError, match="cannot be read: Permission denied"):
        place.tokens.clear(guests)


# Over the wire.


async def ask(place: Place, address: Address, raw: bytes) -> grpc.StatusCode:
    """What the service says to these bytes."""
    credentials = grpc.ssl_channel_credentials(place.authority.pem)
    async with connect(address, credentials, AUTHORITY_HOST) as channel:
        method = channel.unary_unary("/essa.v1.EnrolmentService/Enrol")
        try:
            await method(raw, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


Change = Callable[[pb.EnrolRequest], None]


def _set(**fields: object) -> Change:
    def change(request: pb.EnrolRequest) -> None:
        for name, value in fields.items():
            setattr(request, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_set(token=b""), grpc.StatusCode.INVALID_ARGUMENT),
        (_set(token=bytes(31)), grpc.StatusCode.INVALID_ARGUMENT),
        (_set(token=bytes(32)), grpc.StatusCode.UNAUTHENTICATED),
        (_set(name=""), grpc.StatusCode.INVALID_ARGUMENT),
        (_set(name="x" * 65), grpc.StatusCode.INVALID_ARGUMENT),
        (_set(request=b""), grpc.StatusCode.INVALID_ARGUMENT),
        (_set(request=bytes(4097)), grpc.StatusCode.INVALID_ARGUMENT),
        (_set(request=b"nonsense"), grpc.StatusCode.INVALID_ARGUMENT),
        (_set(name="x" * 70_000), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (_set(), grpc.StatusCode.OK),
    ],
)
def test_what_the_service_answers(place: Place, change: Change, code: grpc.StatusCode) -> None:
    async def run() -> None:
        async with place.served() as address:
            request = pb.EnrolRequest(
                token=place.secret(), name="web-1", request=request_of(new_key())
            )
            change(request)
            assert await ask(place, address, request.SerializeToString()) is code

    asyncio.run(run())


def test_nobody_s_request_is_taken_apart_without_a_token(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(raw: bytes) -> None:
        raise AssertionError("taken apart")

    monkeypatch.setattr(enrolment, "key_of", parse)

    async def run() -> None:
        async with place.served() as address:
            request = pb.EnrolRequest(token=bytes(32), name="web-1", request=b"x")
            code = await ask(place, address, request.SerializeToString())
            assert code is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(run())


def test_a_request_is_signed_with_its_own_key_of_the_one_kind(place: Place) -> None:
    good = request_of(new_key())
    version = good.index(b"\x02\x01\x00") + 2
    for bad in (
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:version] + b"\x01" + good[version + 1 :],
        request_of(ec.generate_private_key(ec.SECP384R1())),
    ):
        with pytest.raises(InvalidRequestError, match="P-256 key, signed with it"):
            enrolment.key_of(bad)
    assert isinstance(enrolment.key_of(good), ec.EllipticCurvePublicKey)


def test_bytes_that_are_no_message_are_bad_input(place: Place) -> None:
    async def run() -> None:
        async with place.served() as address:
            assert await ask(place, address, b"\xff") is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(run())


def test_an_authority_that_cannot_use_its_directory_stops_and_says_so(place: Place) -> None:
    async def run() -> None:
        with pytest.raises(CliError, match="authority cannot be used: "):  # noqa: PT012
            async with place.served() as address:
                (place.authority.directory / "spent").write_text("in the way")
                request = pb.EnrolRequest(
                    token=place.secret(), name="web-1", request=request_of(new_key())
                )
                raw = request.SerializeToString()
                assert await ask(place, address, raw) is grpc.StatusCode.UNAVAILABLE
                await asyncio.wait([place.task], timeout=10)

    asyncio.run(run())


def test_an_authority_that_cannot_listen_touches_no_tokens(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other")

    async def run() -> None:
        async with other.served() as address:
            serving = enrolment.serve(
                place.authority, address, other.places, 9, 1, lambda bound: None
            )
            with pytest.raises(InvalidRequestError, match="in use by another process"):
                await serving
            assert len(waiting(other.places[Role.GUEST])) == 3

    asyncio.run(run())


def test_a_token_is_shown_to_its_own_authority_alone(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other")

    async def run() -> None:
        async with other.served() as address:
            guests = place.places[Role.GUEST]
            with pytest.raises(HostUnreachableError):
                await asyncio.to_thread(enrol.enrol, address, guests, "web-1", tmp_path / "o", 1.0)

    asyncio.run(run())


# The commands.


def test_enrolment_from_the_command_line(place: Place, tmp_path: Path) -> None:
    out, guests = tmp_path / "out", str(place.places[Role.GUEST])

    async def run() -> None:
        async with place.served() as address:
            command = ("certs", "enrol", "--authority", str(address), "--token", guests)
            first = await asyncio.to_thread(
                essa_here, *command, "--name", "web-1", "--out", str(out)
            )
            assert first.returncode == 0
            assert f"{out}: guest web-1, valid until" in first.stdout
            again = await asyncio.to_thread(
                essa_here, *command, "--name", "web-1", "--out", str(out)
            )
            assert again.returncode == 2
            assert "nothing is replaced" in again.stderr

    asyncio.run(run())
    assert load_tls(out, "--tls", (Role.GUEST,)).identity == Identity(Role.GUEST, "web-1")
    assert sorted(path.name for path in out.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]


def test_enrolment_that_is_broken_off_is_gone_on_with(place: Place, tmp_path: Path) -> None:
    out, guests = tmp_path / "out", place.places[Role.GUEST]
    with pytest.raises(HostUnreachableError):
        enrol.enrol(NOBODY, guests, "web-1", out, 0)
    key, token = (out / "key.pem").read_bytes(), (out / "token").read_bytes()
    assert token

    async def run() -> None:
        async with place.served() as address:
            await asyncio.to_thread(enrol.enrol, address, guests, "web-1", out, 5.0)

    asyncio.run(run())
    assert (out / "key.pem").read_bytes() == key
    assert not (out / "token").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["serve", "nowhere", "--guests", "tokens"], "ca.pem cannot be read"),
        (["serve", "nowhere"], "--guests, --hosts and --operators are missing"),
        (["serve", "nowhere", "--guests", "t", "--count", "0"], "--count is 0; it must be 1 to"),
        (
            ["serve", "nowhere", "--guests", "t", "--hosts", "./t"],
            "--guests, --hosts and --operators must be directories of their own",
        ),
        (["serve", "nowhere", "--guests", "t", "--listen", "x"], "--listen is 'x'"),
        (["enrol", "--authority", "x", "--token", "t", "--out", "o"], "--authority is 'x'"),
        (
            ["enrol", "--authority", "localhost:1", "--token", "nowhere", "--out", "o"],
            "--token: nowhere is not there",
        ),
        (
            ["enrol", "--authority", "h:1", "--token", "t", "--out", "o", "--name", "a b"],
            "--name is 'a b'",
        ),
        (
            ["enrol", "--authority", "h:1", "--token", "t", "--out", "o", "--wait", "-1"],
            "--wait is -1; it must be 0 to",
        ),
    ],
)
def test_bad_input(arguments: list[str], text: str) -> None:
    result = essa_here("certs", *arguments)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert text in result.stderr


def test_a_directory_without_tokens_is_waited_for(place: Place, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CliError, match="nobody has put a token into"):
        enrol.enrol(NOBODY, empty, "web-1", tmp_path / "out", 0.0)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("key.pem", "", "key.pem is no key of ours"),
        ("key.pem", "DIRECTORY", "key.pem cannot be read: "),
        ("token", "essa-token AAAA", "token holds no token"),
        ("token", "DIRECTORY", "token cannot be read: "),
        ("ca.pem", "another's", "ca.pem exists already; nothing is replaced"),
    ],
)
def test_what_lies_in_the_way_is_one_line(
    place: Place, tmp_path: Path, name: str, content: str, text: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if content == "DIRECTORY":
        (out / name).mkdir()
    else:
        (out / name).write_text(content)
    with pytest.raises(CliError, match=text):
        enrol.enrol(NOBODY, place.places[Role.GUEST], "web-1", out, 0.0)


def test_a_token_that_is_refused_is_named(place: Place, tmp_path: Path) -> None:
    out, guests = tmp_path / "out", place.places[Role.GUEST]
    assert claim(guests, out / "token")
    place.tokens.trade(Token.read(out / "token").secret, "web-1", KEY)

    async def run() -> None:
        async with place.served() as address:
            with pytest.raises(CliError, match="token: the token was spent already"):
                await asyncio.to_thread(enrol.enrol, address, guests, "web-2", out, 5.0)

    asyncio.run(run())
    assert not (out / "cert.pem").exists()


def test_each_thing_that_is_waited_for_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    patience, failure = enrol.Patience(60.0), CliError("why")
    with structlog.testing.capture_logs() as logs:
        for what in ("token", "token", "authority", "authority"):
            patience.wait(failure, what)
    assert [line["event"] for line in logs] == ["token_awaited", "authority_awaited"]
    with pytest.raises(CliError, match="why"):
        enrol.Patience(0.0).wait(failure, "token")


def test_an_authority_that_has_expired_gives_nothing_out(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return cls.fromtimestamp(time.time() + 3 * 86_400, tz)

    monkeypatch.setattr(tls, "datetime", Later)
    with pytest.raises(InvalidRequestError, match=r"ca\.pem expired at"):
        Authority(place.authority.directory)


def test_who_has_enrolled_is_logged_and_no_token_is(place: Place, tmp_path: Path) -> None:
    guests = place.places[Role.GUEST]
    token = Token.read(waiting(guests)[0])
    logs: list[Any] = []

    async def run() -> None:
        async with place.served() as address:
            with structlog.testing.capture_logs() as captured:
                await asyncio.to_thread(enrol.enrol, address, guests, "g", tmp_path / "g", 5.0)
            logs.extend(captured)

    asyncio.run(run())
    assert [(line["event"], line["holder"]) for line in logs] == [("enrolled", "guest g")]
    word = token.text().split()[1].decode()
    for text in (repr(token), repr(logs)):
        assert word not in text
        assert repr(token.secret) not in text


def test_health_of_an_authority(place: Place) -> None:
    ca = str(place.authority.directory / "ca.pem")

    async def run() -> None:
        async with place.served() as address:
            health = ("health", str(address).replace("127.0.0.1", "localhost"), "--ca")
            well = await asyncio.to_thread(essa_here, *health, ca)
            assert (well.returncode, well.stdout.split()[-1]) == (0, "SERVING")
            both = await asyncio.to_thread(essa_here, *health, ca, "--insecure")
            assert "--insecure is given and so is --ca" in both.stderr
            none = await asyncio.to_thread(essa_here, *health, "nowhere")
            for bad in (both, none):
                assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)

    asyncio.run(run())
