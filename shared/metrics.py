"""Metrics in Prometheus' conventions: tables of what there is, and a small server that shows it.

Rules:
- A counter lives where it is counted, and a scrape reads it: nothing is counted twice, and
  whoever counts pays nothing for being scraped.
- State is read on the event loop's thread alone. The server has threads of its own; they
  wait for the loop, and only turn into text what it gave them.
- Names, types and labels stand in tables of `Family`, from which docs/METRICS.md is made.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from socket import AF_INET, AF_INET6
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final, Generic, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.errors import InvalidRequestError
from shared.rpc.channel import Address, parse_address
from shared.telemetry import logger

SCRAPE_SECONDS: Final = 5.0
"""How long a scrape waits for the loop, and a client may take for its request."""
SCRAPES_MAX: Final = 8
"""At a time; whoever comes then finds the connection closed."""

POLL_SECONDS: Final = 0.2
"""How often the server looks whether it is to stop."""

State = TypeVar("State", contravariant=True)
Sample = tuple[tuple[str, ...], float]
"""The values of a family's labels, and the number."""
Collect = Callable[[], Awaitable[list[Metric]]]


class Kind(StrEnum):
    """What a metric is."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Family(Generic[State]):
    """One metric: its name, what it means, and how to read it.

    A counter's name ends in `_total`. labels: the names of what distinguishes its samples,
    few values each.
    """

    name: str
    kind: Kind
    text: str
    read: Callable[[State], Iterable[Sample]]
    labels: tuple[str, ...] = ()


def counter(
    name: str, text: str, read: Callable[[State], Iterable[Sample]], *labels: str
) -> Family[State]:
    """A family that only ever grows, but for a restart; its name ends in `_total`."""
    assert name.endswith("_total"), name
    return Family(name, Kind.COUNTER, text, read, labels)


def gauge(
    name: str, text: str, read: Callable[[State], Iterable[Sample]], *labels: str
) -> Family[State]:
    """A family that goes up and down."""
    return Family(name, Kind.GAUGE, text, read, labels)


def one(read: Callable[[State], float]) -> Callable[[State], Iterator[Sample]]:
    """Reads a family that has no labels of its own."""

    def samples(state: State) -> Iterator[Sample]:
        yield (), read(state)

    return samples


class Gathered(Generic[State]):
    """The samples of a table's families, read from one state after another.

    common: labels that every family has in front of its own.
    """

    def __init__(self, families: Sequence[Family[State]], *common: str) -> None:
        self._rows: list[tuple[Family[State], CounterMetricFamily | GaugeMetricFamily]] = []
        for family in families:
            make = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
            labels = (*common, *family.labels)
            self._rows.append((family, make(family.name, family.text, labels=labels)))

    def add(self, state: State, *common: str) -> None:
        """Read one state; its samples carry these values of the common labels."""
        for family, metric in self._rows:
            for labels, value in family.read(state):
                metric.add_metric((*common, *labels), value)

    def metrics(self) -> list[Metric]:
        """What was read."""
        return [metric for _, metric in self._rows]


def metrics_address(text: str, field: str, *, exposed: bool) -> Address:
    """Parse `HOST:PORT`; beyond loopback only if `exposed`, since metrics are plain HTTP.

    Raises InvalidRequestError.
    """
    address = parse_address(text, field)
    if address.path:
        bound = "it must be HOST:PORT, because scrapers know no Unix sockets"
    elif not address.local and not exposed:
        bound = "it must be a loopback address unless --insecure-metrics is given"
    else:
        return address
    raise InvalidRequestError(f"{field} is {address}; {bound}", field=field, value=str(address))


class _OnTheLoop(Collector):
    """Has a coroutine run on the loop, whatever thread asks."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._loop = asyncio.get_running_loop()

    def collect(self) -> Iterable[Metric]:
        return asyncio.run_coroutine_threadsafe(self._gather(), self._loop).result()

    async def _gather(self) -> list[Metric]:
        async with asyncio.timeout(SCRAPE_SECONDS):
            return await self._collect()


class _Handler(WSGIRequestHandler):
    """Says nothing, and waits for nobody for ever."""

    timeout = SCRAPE_SECONDS

    def log_message(self, format: str, *arguments: Any) -> None:
        """A scrape is no event."""


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each of at most SCRAPES_MAX requests."""

    daemon_threads = True

    def __init__(self, address: Address) -> None:
        self.address_family = AF_INET6 if ":" in address.host else AF_INET
        self._places = threading.BoundedSemaphore(SCRAPES_MAX)
        super().__init__((address.host, address.port), _Handler)

    def server_bind(self) -> None:
        # Without asking a name server for our own name, as the library does.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that went away is no event either."""


class MetricsServer:
    """Serves `/metrics` at an address, from `start` to `stop`. Make it on the loop's thread."""

    def __init__(self, address: Address, collect: Collect, option: str = "--metrics") -> None:
        """Take the socket. Raises InvalidRequestError that names the option."""
        registry = CollectorRegistry()
        registry.register(_OnTheLoop(collect))
        ProcessCollector(registry=registry)
        self._app = make_wsgi_app(registry)
        try:
            self._server = _Server(address)
        except OSError as error:
            raise InvalidRequestError(
                f"{option} {address} cannot be used: {error.strerror or error}",
                field=option,
                value=str(address),
            ) from None
        self._server.set_app(self._answer)
        self.address = Address(host=address.host, port=self._server.server_port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="metrics", daemon=True
        )

    def start(self) -> None:
        """Answer scrapes."""
        self._thread.start()
        logger().info("metrics_served", address=str(self.address))

    async def stop(self) -> None:
        """Answer no more."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            return self._app(environ, start_response)  # type: ignore[no-any-return]
        except (TimeoutError, RuntimeError):  # the loop is too busy, or has ended
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"the daemon did not answer in time\n"]
