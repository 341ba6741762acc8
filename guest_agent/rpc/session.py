"""Opening and closing a guest's session with its host.

Rules:
- A host that is not there yet is waited for, and the log says so after SHORT_SECONDS and from
  time to time; one that answers "no" is not asked twice. No answer: the call, or what was
  answered, may be lost, and it is made again.
- A name in use is the exception, and asked for again for NAME_SECONDS: its holder may be dead,
  killed a moment ago or an OpenGuest of our own whose answer was lost. The host says which.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from guest_agent.config import GuestConfig
from shared.arch import Mode
from shared.errors import (
    DrainingError,
    GuestExistsError,
    InvalidTokenError,
    StaleIncarnationError,
)
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import HELD_SECONDS, HostUnreachableError, call
from shared.telemetry import logger

_MODES: Final = {Mode.SEED: pb.MODE_SEED, Mode.KVM: pb.MODE_KVM}
_RETRY_SECONDS: Final = 0.1
SHORT_SECONDS: Final = 1.0
"""A host that is there within so long was not waited for."""
_REMIND_SECONDS: Final = 10.0
NAME_SECONDS: Final = HELD_SECONDS + 1.0
"""A name that is in use for so long has a live holder, or one whose machine vanished, which the
host notices by its keepalive."""


async def open_session(stub: Any, config: GuestConfig) -> pb.OpenGuestResponse:
    """Open the guest, waiting up to `config.wait_seconds` for the host to be there.

    For a name in use it waits no longer than that either, and at most NAME_SECONDS.
    Raises the EssaError that the host answers, or HostUnreachableError.
    """
    request = pb.OpenGuestRequest(
        name=config.name,
        page_count=config.page_count,
        vcpu_count=config.vcpu_count,
        device_count=config.device_count,
        mode=_MODES[config.mode],
        essa_enabled=config.essa_enabled,
        take_over=True,
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + config.wait_seconds
    remind_at = loop.time() + SHORT_SECONDS
    name_deadline: float | None = None
    while True:
        try:
            response: pb.OpenGuestResponse = await call(stub, "OpenGuest", request, config.host)
            return response
        except (HostUnreachableError, DrainingError) as error:
            now = loop.time()
            if now + _RETRY_SECONDS > deadline:
                raise
            if now >= remind_at:
                remind_at = now + _REMIND_SECONDS
                seconds_left = round(deadline - now, 1)
                logger().warning("host_awaited", seconds_left=seconds_left, reason=str(error))
        except GuestExistsError as error:
            now = loop.time()
            if name_deadline is None:
                patience = min(NAME_SECONDS, config.wait_seconds)
                name_deadline = now + patience
                logger().info("name_awaited", seconds_left=patience, reason=str(error))
            if now + _RETRY_SECONDS > name_deadline:
                raise
        await asyncio.sleep(_RETRY_SECONDS)


async def close_session(
    stub: Any, session: pb.Session, config: GuestConfig, patience: float = 0.0
) -> None:
    """Close the guest; the host frees what it held. `patience`: seconds in which to ask again.

    A session that the host does not know is closed: by an earlier call whose answer was lost,
    or with the host's memory. Raises as `open_session` does.
    """
    request = pb.CloseGuestRequest(session=session)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        try:
            await call(stub, "CloseGuest", request, config.host)
            return
        except (InvalidTokenError, StaleIncarnationError):
            return
        except (HostUnreachableError, DrainingError):
            if loop.time() + _RETRY_SECONDS > deadline:
                raise
        await asyncio.sleep(_RETRY_SECONDS)
