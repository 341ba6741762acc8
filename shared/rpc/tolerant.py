"""Messages whose bytes are none of their type: refused like any other bad input.

Rules:
- The library would answer them UNKNOWN, which peers take for a bug of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from shared.errors import InvalidRequestError


class Undecodable:
    """Stands for a message whose bytes are none of its type."""


def tolerant_deserializer(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserializer for servers: what the library would answer UNKNOWN becomes Undecodable."""

    def decode(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except DecodeError:
            return Undecodable()

    return decode


def decoded(message: Any) -> Any:
    """The message, unless it is Undecodable: that is an InvalidRequestError."""
    if isinstance(message, Undecodable):
        raise InvalidRequestError("the message is malformed", field="message")
    return message


class TolerantRegistrar:
    """Stands in for a server while a service is added: makes its deserializers tolerant."""

    def __init__(self, server: grpc.Server | grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """The generated code says everything twice; the other way is easier to rewrite."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register a service."""
        tolerant = {
            name: handler._replace(
                request_deserializer=tolerant_deserializer(handler.request_deserializer)
            )
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, tolerant),)
        )
