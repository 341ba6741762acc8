"""One call with whatever bytes, and what is told of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from essa_cli.certificates.authority import AUTHORITY_HOST
from shared.rpc.channel import Address
from shared.rpc.status import error_of

UNBOUNDED: Final = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and the reason in it; the text is for people, and does not count."""

    status: str
    reason: str = ""
    text: str = field(default="", compare=False)


def connect_unbounded(address: Address, authority: bytes | None = None) -> grpc.aio.Channel:
    """A channel that sends messages of any length. The caller closes it.

    authority: of an authority that is called, its certificate.
    """
    if authority is not None:
        options = (*UNBOUNDED, ("grpc.ssl_target_name_override", AUTHORITY_HOST))
        credentials = grpc.ssl_channel_credentials(authority)
        return grpc.aio.secure_channel(address.target, credentials, options=options)
    return grpc.aio.insecure_channel(address.target, options=UNBOUNDED)


async def ask(channel: Any, method: Any, raw: bytes, seconds: float = 10.0) -> Answer:
    """Call a method, by its descriptor; all that comes before the status is dropped."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            stream = channel.stream_stream(path)(timeout=seconds)
            with suppress(asyncio.InvalidStateError):  # the host has ended it, and says why below
                await stream.write(raw)
                await stream.done_writing()
            async for _ in stream:
                pass
        elif method.server_streaming:
            async for _ in channel.unary_stream(path)(raw, timeout=seconds):
                pass
        else:
            await channel.unary_unary(path)(raw, timeout=seconds)
    except grpc.aio.AioRpcError as error:
        refused = error_of(error)
        reason = "" if refused is None else refused.reason
        return Answer(error.code().name, reason, error.details() or "")
    return Answer("OK")
