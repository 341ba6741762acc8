"""What every server of ours offers beside its own service: health and reflection."""

from __future__ import annotations

from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

_HEALTH: Final[Any] = health  # its types do not know of its aio half


class Standard:
    """The two services of one daemon, whose servers may be several."""

    def __init__(self) -> None:
        self._checker = _HEALTH.aio.HealthServicer()
        self._services = [""]

    def add(self, server: grpc.aio.Server, service: str) -> None:
        """Offer both on a server whose own service has this name."""
        health_pb2_grpc.add_HealthServicer_to_server(self._checker, server)
        names = (service, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        self._services.append(service)

    async def serving(self) -> None:
        """From here on health says so, of each service and of the daemon."""
        for service in self._services:
            await self._checker.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def leaving(self) -> None:
        """From here on health says that nothing is served, for good."""
        await self._checker.enter_graceful_shutdown()
