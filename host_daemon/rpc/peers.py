"""Who a peer is, and which services its role may call.

Rules:
- A peer that came over TLS is who its certificate says; one on a Unix socket, or on a port
  that was opened without TLS, is whoever it says it is.
- Every method asks for the role of its server, those that do not exist yet included; only
  health answers to any certificate of the authority.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health

from shared import identity
from shared.errors import IdentityMismatchError, RoleNotAllowedError
from shared.identity import Identity, Role
from shared.rpc.status import abort_with

_FOR_ALL: Final = f"/{health.SERVICE_NAME}/"
_SECURE: Final = [b"ssl"]


def peer_of(context: Any) -> Identity | None:
    """Who called; None where nobody asked for certificates. Raises RoleNotAllowedError."""
    facts = context.auth_context()
    if facts.get("transport_security_type") != _SECURE:
        return None
    uris = facts.get("peer_uri", ())
    holder = identity.parse(uris[0].decode(errors="replace")) if len(uris) == 1 else None
    if holder is None:
        raise RoleNotAllowedError("the certificate names no essa:ROLE:NAME", role="none")
    return holder


def check_name(context: Any, name: str) -> None:
    """Raise IdentityMismatchError unless the peer may act as the guest of this name."""
    holder = peer_of(context)
    if holder is not None and holder.name != name:
        raise IdentityMismatchError(
            f"the guest is {name}; the certificate names {holder.name}",
            guest=name,
            certificate=holder.name,
        )


def check_role(context: Any, role: Role) -> None:
    """Raise RoleNotAllowedError unless the peer may do what is for this role."""
    holder = peer_of(context)
    if holder is not None and holder.role is not role:
        raise RoleNotAllowedError(
            f"the certificate is of role {holder.role}; this is for role {role}",
            role=str(holder.role),
            wanted=str(role),
        )


class RoleInterceptor(grpc.aio.ServerInterceptor):
    """Refuses every call of a peer whose certificate is not of `role`."""

    def __init__(self, role: Role) -> None:
        self._role = role

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """The method's handler, behind the check."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_FOR_ALL):
            return handler
        kind = "_".join(
            "stream" if streaming else "unary"
            for streaming in (handler.request_streaming, handler.response_streaming)
        )
        return handler._replace(**{kind: self._guarded(getattr(handler, kind))})

    def _guarded(self, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        async def answer(request: Any, context: Any) -> Any:
            await self._admit(context)
            return await behaviour(request, context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._admit(context)
            async for message in behaviour(request, context):
                yield message

        return stream if inspect.isasyncgenfunction(behaviour) else answer

    async def _admit(self, context: Any) -> None:
        try:
            check_role(context, self._role)
        except RoleNotAllowedError as error:
            await abort_with(context, error)
