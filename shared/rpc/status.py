"""EssaError <-> gRPC status, both ways.

Rules:
- Code, reason and values are the contract; the text is for people.
- Nobody else calls `context.abort`: unawaited it does nothing, swallowed it still wins.
- An exception that is no EssaError is our own bug: the peer gets INTERNAL, and the servicer
  is told, so that the daemon ends instead of going on with a state nobody understands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final, NoReturn, Protocol, TypeVar
from urllib.parse import quote, unquote

import grpc

from shared import errors
from shared.errors import EssaError
from shared.rpc.tolerant import decoded

REASON_KEY: Final = "essa-reason"
_PREFIX: Final = "essa-"
_TEXT_MAX: Final = 500
_VALUE_MAX: Final = 200
"""Together far below the 8 KiB that HTTP/2 peers take as metadata."""

CODES: Final[dict[type[EssaError], grpc.StatusCode]] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.GuestNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.FaultNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.GuestExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.InvalidTokenError: grpc.StatusCode.UNAUTHENTICATED,
    errors.IdentityMismatchError: grpc.StatusCode.PERMISSION_DENIED,
    errors.RoleNotAllowedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.TokenRefusedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.NameTakenError: grpc.StatusCode.ALREADY_EXISTS,
    errors.StaleIncarnationError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SequenceError: grpc.StatusCode.ABORTED,
    errors.PagingSpaceError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyWatchersError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DrainingError: grpc.StatusCode.UNAVAILABLE,
}

_BY_REASON: Final = {error.reason: error for error in CODES}

Metadata = tuple[tuple[str, str], ...]


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def status_of(error: EssaError) -> tuple[grpc.StatusCode, str, Metadata]:
    """Code, text and trailing metadata. Values are percent-encoded and long ones cut."""
    values = tuple(
        (_PREFIX + key, quote(_clip(str(value), _VALUE_MAX), safe="[]()+*,:;=!?@$&'"))
        for key, value in error.metadata.items()
    )
    return CODES[type(error)], _clip(str(error), _TEXT_MAX), ((REASON_KEY, error.reason), *values)


def error_of(call: grpc.aio.AioRpcError) -> EssaError | None:
    """The EssaError that a failed call carries; None if the failure is the transport's.

    All values come back as text.
    """
    pairs: Any = call.trailing_metadata()  # the library's own type forgets to be iterable
    metadata: dict[str, str | bytes] = dict(pairs or ())
    reason = metadata.pop(REASON_KEY, None)
    if not isinstance(reason, str) or reason not in _BY_REASON:
        return None
    values = {
        key.removeprefix(_PREFIX): unquote(value)
        for key, value in metadata.items()
        if key.startswith(_PREFIX) and isinstance(value, str)
    }
    error = _BY_REASON[reason](call.details() or reason)
    error.metadata.update(values)
    return error


async def abort_with(context: Any, error: EssaError) -> None:
    """End a call with the error's status; never returns."""
    code, text, metadata = status_of(error)
    await context.abort(code, text, metadata)


def abort_blocking(context: grpc.ServicerContext, error: EssaError) -> NoReturn:
    """The same, where a thread serves the call."""
    code, text, metadata = status_of(error)
    context.set_trailing_metadata(metadata)
    context.abort(code, text)
    raise AssertionError("abort always raises")


class Reporter(Protocol):
    """What `reports_status` needs of a servicer."""

    def bug_found(self, error: Exception) -> None:
        """An exception that is our own bug came up; called before the peer is answered."""
        ...


class StreamResetError(Exception):
    """An injected fault breaks the call: the peer sees what a broken connection shows it."""


Request = TypeVar("Request")
Response = TypeVar("Response")
Handler = Callable[[Any, Request, Any], Awaitable[Response]]


def reports_status(method: Handler[Request, Response]) -> Handler[Request, Response]:
    """Turn what a servicer's coroutine raises into a status."""

    @wraps(method)
    async def reporting(servicer: Reporter, request: Request, context: Any) -> Response:
        try:
            return await method(servicer, decoded(request), context)
        except EssaError as error:
            await abort_with(context, error)
        except StreamResetError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except grpc.aio.InternalError:
            raise  # the peer went away while we were talking to it; the library knows
        except Exception as error:
            servicer.bug_found(error)
            text = f"bug in the daemon: {type(error).__name__}"
            await context.abort(grpc.StatusCode.INTERNAL, text)
        raise AssertionError("abort always raises")

    return reporting
