"""Addresses as people write them, and one policy for every method."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from shared.errors import InvalidRequestError
from shared.essa.v1 import enrolment_pb2
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import CHANNEL_OPTIONS, POLICIES, SERVER_OPTIONS, Address, parse_address


@pytest.mark.parametrize(
    ("text", "address", "target", "local"),
    [
        ("unix:/run/essa.sock", Address(path="/run/essa.sock"), "unix:/run/essa.sock", True),
        ("unix:///run/essa.sock", Address(path="/run/essa.sock"), "unix:/run/essa.sock", True),
        ("unix:essa.sock", Address(path="essa.sock"), "unix:essa.sock", True),
        ("localhost:7001", Address(host="localhost", port=7001), "localhost:7001", True),
        ("127.0.0.2:1", Address(host="127.0.0.2", port=1), "127.0.0.2:1", True),
        ("[::1]:0", Address(host="::1"), "[::1]:0", True),
        ("0.0.0.0:7001", Address(host="0.0.0.0", port=7001), "0.0.0.0:7001", False),
        ("host-1.lan:65535", Address(host="host-1.lan", port=65535), "host-1.lan:65535", False),
    ],
)
def test_addresses(text: str, address: Address, target: str, local: bool) -> None:
    parsed = parse_address(text, "--listen")
    assert parsed == address
    assert parsed.target == target
    assert parsed.local is local


@pytest.mark.parametrize(
    "text",
    [
        *("", "unix:", "unix:" + "x" * 108, "essa.sock", "/run/essa.sock", "7001", ":7001"),
        *("localhost", "localhost:", "localhost:http", "localhost:65536", "localhost:-1"),
        *("::1:7001", "[::1]", "a b:1", "http://localhost:1", "localhost:1\n"),
    ],
)
def test_wrong_addresses_name_the_field_and_the_form(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^--listen is .*must") as caught:
        parse_address(text, "--listen")
    assert caught.value.metadata["field"] == "--listen"


def test_every_method_has_a_policy_and_no_other_is_named() -> None:
    files = (pb.DESCRIPTOR, enrolment_pb2.DESCRIPTOR)
    services = [service for file in files for service in file.services_by_name.values()]
    methods = [method for service in services for method in service.methods]
    assert sorted(POLICIES) == sorted(method.name for method in methods)
    for method in methods:
        lasts = POLICIES[method.name].deadline_seconds is None
        assert lasts == method.server_streaming


def test_every_option_is_one_that_the_library_knows() -> None:
    """It ignores what it does not know: a host once cut off all who were quiet for a minute."""
    library = Path(cygrpc.__file__).read_bytes()
    for name, _ in {*CHANNEL_OPTIONS, *SERVER_OPTIONS}:
        assert name.encode() + b"\0" in library, name
