"""Every EssaError crosses the wire and comes out as what it was."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import errors
from shared.errors import EssaError
from shared.rpc.status import CODES, error_of, status_of


def all_errors() -> list[type[EssaError]]:
    found = [x for x in vars(errors).values() if isinstance(x, type) and issubclass(x, EssaError)]
    return [error for error in found if error is not EssaError]


def received(error: EssaError) -> grpc.aio.AioRpcError:
    code, text, metadata = status_of(error)
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details=text
    )


def test_every_error_has_a_code_and_a_reason_of_its_own() -> None:
    assert set(all_errors()) == set(CODES)
    assert len({error.reason for error in CODES}) == len(CODES)


keys = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True).filter(lambda key: key != "reason")


@given(
    st.sampled_from(sorted(CODES, key=lambda error: error.reason)),
    st.text(max_size=60),
    st.dictionaries(keys, st.one_of(st.integers(), st.text(max_size=40)), max_size=5),
)
def test_errors_round_trip(kind: type[EssaError], text: str, metadata: dict[str, Any]) -> None:
    result = error_of(received(kind(text, **metadata)))
    assert type(result) is kind
    assert str(result) == (text or kind.reason)
    assert result.metadata == {key: str(value) for key, value in metadata.items()}


def test_values_are_plain_ascii_and_short_whatever_the_peer_sent() -> None:
    error = errors.GuestNotFoundError("n" * 100_000, name="ä\n" * 100_000)
    _, text, metadata = status_of(error)
    assert len(text) <= 500
    assert all(value.isascii() and value.isprintable() for _, value in metadata)
    assert sum(len(key) + len(value) for key, value in metadata) < 4096


@pytest.mark.parametrize("metadata", [(), (("essa-reason", "NO_SUCH_REASON"),)])
def test_a_failure_without_our_reason_is_the_transports(metadata: Any) -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata)
    )
    assert error_of(error) is None
