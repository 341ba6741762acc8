"""Addresses, channel and server options, and how long each call may take.

Rules:
- Every option that the two sides must agree on, or that has a surprising default, is said.
- Retry is ours, not the library's: only calls that may be repeated, only when the host was
  not there or is draining.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final

import grpc

from shared.errors import DrainingError, EssaError, InvalidRequestError
from shared.rpc.status import error_of

MESSAGE_BYTES_MAX: Final = 8 << 20
DEFAULT_LISTEN: Final = "unix:essa.sock"
DEFAULT_CONTROL: Final = "unix:essa-control.sock"
"""Where a host listens, and where guests and operators look for it, if nothing is said."""

_UNIX_PATH_MAX: Final = 107  # sockaddr_un.sun_path, less the terminating zero

_COMMON_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

CHANNEL_OPTIONS: Final = (
    *_COMMON_OPTIONS,
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # So long may one attempt take, handshake included, whatever its name says.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)

SERVER_OPTIONS: Final = (
    *_COMMON_OPTIONS,
    # Whoever pings more often is cut off: half of what peers of ours keep to when they are quiet.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a share of the calls
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens: `path` for a Unix socket, else host and port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def target(self) -> str:
        """As gRPC takes it."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether nobody outside this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # a name may resolve to anything

    def __str__(self) -> str:
        return self.target


_HOST_PORT: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:\[\]/]+)):([0-9]{1,5})")


def parse_address(text: str, field: str) -> Address:
    """Parse `unix:PATH` or `HOST:PORT` (IPv6 in brackets); `field` is named in the error."""

    def wrong(bound: str) -> InvalidRequestError:
        return InvalidRequestError(f"{field} is {text!r}; {bound}", field=field, value=text)

    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not 1 <= len(path.encode()) <= _UNIX_PATH_MAX:
            raise wrong(f"the path after unix: must have 1 to {_UNIX_PATH_MAX} bytes")
        return Address(path=path)
    found = _HOST_PORT.fullmatch(text)
    if found is None:
        raise wrong("it must be unix:PATH or HOST:PORT")
    if int(found[3]) > 65_535:
        raise wrong("the port must be 0 to 65535")
    return Address(host=found[1] or found[2], port=int(found[3]))


def check_reach(address: Address, option: str, *, protected: bool) -> None:
    """Raise InvalidRequestError for an address beyond this machine that nothing protects."""
    if not address.local and not protected:
        bound = "a Unix socket or a loopback address unless --tls or --insecure is given"
        text = f"{option} is {address}; it must be {bound}"
        raise InvalidRequestError(text, field=option, value=str(address), bound=bound)


def connect(
    address: Address, credentials: grpc.ChannelCredentials | None = None, name: str | None = None
) -> grpc.aio.Channel:
    """A channel to the host; connects at the first call. The caller closes it.

    name: what the certificate of the other end has to bear instead of the address. Unix
    sockets need no credentials and get none: the file's mode guards them.
    """
    if credentials is not None and not address.path:
        named = () if name is None else (("grpc.ssl_target_name_override", name),)
        options = (*CHANNEL_OPTIONS, *named)
        return grpc.aio.secure_channel(address.target, credentials, options=options)
    return grpc.aio.insecure_channel(address.target, options=CHANNEL_OPTIONS)


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """deadline_seconds: None for streams that last. repeatable: retry while unavailable."""

    deadline_seconds: float | None
    repeatable: bool


POLICIES: Final = {
    "OpenGuest": CallPolicy(3.0, repeatable=False),
    "ExecuteEssa": CallPolicy(30.0, repeatable=False),
    "Execute": CallPolicy(None, repeatable=False),
    "SubscribeFaults": CallPolicy(None, repeatable=False),
    "AcknowledgeFaults": CallPolicy(10.0, repeatable=True),
    "CloseGuest": CallPolicy(3.0, repeatable=False),
    "GetStatus": CallPolicy(10.0, repeatable=True),
    "ListGuests": CallPolicy(10.0, repeatable=True),
    "GetGuest": CallPolicy(10.0, repeatable=True),
    "GetPageMap": CallPolicy(10.0, repeatable=True),
    "EvictPages": CallPolicy(30.0, repeatable=True),
    "WatchEvents": CallPolicy(None, repeatable=False),
    "InjectFault": CallPolicy(10.0, repeatable=False),
    "ListFaults": CallPolicy(10.0, repeatable=True),
    "StopFault": CallPolicy(10.0, repeatable=True),
    "Enrol": CallPolicy(10.0, repeatable=True),
}
"""Every method of both services; a test compares it with the descriptor. OpenGuest and CloseGuest
are short, because their callers ask again: within their patience, and after HELD_SECONDS."""

RETRY_DELAYS_SECONDS: Final = (0.05, 0.1, 0.2, 0.4, 0.8)


HELD_SECONDS: Final = 2.0
"""A guest without streams and calls keeps its name for so long, which the wire promises. A
stream that broke while the host was there is made again well within it."""


class HostUnreachableError(Exception):
    """The transport failed: no host there, a deadline passed, or a connection broke."""


def _unreachable(address: str, error: grpc.aio.AioRpcError) -> HostUnreachableError:
    text = " ".join((error.details() or "").split())
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        text = (
            "what answers does not serve this: another version, or the host's other socket "
            "(guests go to its --listen, operators to its --control)"
        )
    return HostUnreachableError(f"no answer from {address}: {error.code().name}: {text}")


async def call(stub: Any, method: str, request: Any, address: object = "the host") -> Any:
    """One unary call under its policy.

    Raises the EssaError that the host sent, or HostUnreachableError.
    """
    policy = POLICIES[method]
    delays = iter(RETRY_DELAYS_SECONDS if policy.repeatable else ())
    while True:
        try:
            return await getattr(stub, method)(request, timeout=policy.deadline_seconds)
        except grpc.aio.AioRpcError as error:
            failure: EssaError | HostUnreachableError | None = error_of(error)
            transient = isinstance(failure, DrainingError) or (
                failure is None and error.code() is grpc.StatusCode.UNAVAILABLE
            )
            delay = next(delays, None) if transient else None
            if delay is None:
                raise (failure or _unreachable(str(address), error)) from error
        await asyncio.sleep(delay)
