"""One life of the daemon: from a checkpoint or afresh, until a signal, to a checkpoint.

Rules:
- Everything that can be wrong with the configuration is found before anybody is served, and
  before a checkpoint is consumed.
- A checkpoint is consumed before anybody is served, so that a later kill -9 is a power
  failure: the next daemon begins afresh, with an incarnation of its own.
- After a bug of our own nothing is written: nobody knows what the state is worth.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import secrets
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from host_daemon import checkpoint
from host_daemon.checkpoint import CheckpointError
from host_daemon.config import DaemonConfig, wrong
from host_daemon.core.compiled import ESSA_PASS
from host_daemon.core.config import HostConfig
from host_daemon.core.host import Host
from host_daemon.faults.book import FaultBook
from host_daemon.metrics import HostMetrics
from host_daemon.paging.device import FilePagingDevice, open_paging_device
from host_daemon.paging.faulty import FaultyDevice
from host_daemon.rpc.recorded_shell import recorded_shell
from host_daemon.rpc.server import Servers
from host_daemon.rpc.sessions import Sessions
from host_daemon.rpc.shell import HostShell, restore_shell
from shared.metrics import MetricsServer
from shared.rpc.channel import Address
from shared.runlog.records import END, HOST_FILE
from shared.runlog.writer import RunLog, create_run_log
from shared.telemetry import logger

GRACE_SECONDS: Final = 1.0
"""For answers that are on their way when the daemon is told to stop."""

_OPTIONS: Final = {
    "frame_count": "--memory",
    "slot_count": "--paging-size",
    "low_watermark": "--low-watermark",
    "high_watermark": "--high-watermark",
    "policy": "--policy",
    "overcommit_paging": "--overcommit-paging",
}


class RandomChoices:
    """Choices of a real host: nobody replays them."""

    def choose(self, bound: int) -> int:
        """A number from 0 to bound - 1."""
        return random.randrange(bound)


@dataclass(slots=True)
class _Stop:
    """Why the daemon ends, once it does."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    bug: BaseException | None = None

    def bug_found(self, error: BaseException) -> None:
        """End because of a bug of our own."""
        if self.bug is None:
            self.bug = error
            logger().error("bug_found", exc_info=error)
        self.event.set()

    def in_callback(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler: what a completion or a timer raised."""
        self.bug_found(context.get("exception") or RuntimeError(context["message"]))


async def run(config: DaemonConfig) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Raises InvalidRequestError, PagingFileError, CheckpointError or RunLogError for what the user
    can mend.
    """
    stop = _Stop()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(stop.in_callback)
    data = None if config.state_dir is None else checkpoint.load(config.state_dir)
    record: RunLog | None = None
    book = FaultBook()
    device = FaultyDevice(await _open_device(config, resumed=data is not None), book)
    try:
        if config.record is not None:
            record = create_run_log(config.record, HOST_FILE)
        shell = _make_shell(config, device, data, book, record)
        servers = Servers(shell, stop.bug_found, config.tls)
        metrics = _metrics(config, shell)
        listen, control = servers.bind(config.listen, config.control)
        if data is not None and config.state_dir is not None:
            checkpoint.consume(config.state_dir)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.event.set)
        shell.start()
        await servers.start()
        if metrics is not None:
            metrics.start()
        _announce(config, listen, control, shell, metrics, resumed=data is not None)
        await stop.event.wait()
        if metrics is not None:
            await metrics.stop()
        shell.drain()
        await servers.stop(GRACE_SECONDS)
        if stop.bug is None:
            await _finish(config, shell, device)
        if record is not None:
            record.write([END])
    finally:
        if record is not None:
            record.close()
        await device.close()
    return 0 if stop.bug is None else 1


def _metrics(config: DaemonConfig, shell: HostShell) -> MetricsServer | None:
    if config.metrics is None:
        return None
    return MetricsServer(config.metrics, HostMetrics(shell).collect)


async def _open_device(config: DaemonConfig, *, resumed: bool) -> FilePagingDevice:
    slots = config.host.slot_count
    if config.paging_file is not None:
        return await open_paging_device(config.paging_file, slots, keep=resumed)
    with tempfile.TemporaryDirectory(prefix="essa-") as directory:
        # The file outlives its name, and goes when the process goes, however that ends.
        return await open_paging_device(Path(directory) / "paging", slots)


def _make_shell(
    config: DaemonConfig,
    device: FaultyDevice,
    data: dict[str, Any] | None,
    book: FaultBook,
    record: RunLog | None,
) -> HostShell:
    choices = RandomChoices()
    if data is None:
        incarnation = secrets.randbits(64) or 1
        sessions = Sessions(incarnation)
        if record is not None:
            return recorded_shell(config.host, choices, device, sessions, book, record)
        return HostShell(Host(config.host, choices), device, sessions, book)
    path = (config.state_dir or Path()) / checkpoint.FILE_NAME
    if data.get("paging") != device.identity:
        raise CheckpointError(f"{path} belongs to another paging file than {config.paging_file}")
    try:
        shell = restore_shell(data["shell"], choices, device, book)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise CheckpointError(f"{path} is foreign: {error!r}") from error
    _check_same(shell.host.config, config.host)
    return shell


def _check_same(resumed: HostConfig, wanted: HostConfig) -> None:
    for item in dataclasses.fields(HostConfig):
        before, now = getattr(resumed, item.name), getattr(wanted, item.name)
        if before != now:
            option = _OPTIONS.get(item.name, item.name)
            raise wrong(option, now, f"{before}, as in the checkpoint that is to be resumed")


def _announce(
    config: DaemonConfig,
    listen: tuple[Address, ...],
    control: Address,
    shell: HostShell,
    metrics: MetricsServer | None,
    *,
    resumed: bool,
) -> None:
    """Say on standard output, in one line, that guests may come."""
    where = " ".join(f"listen={address}" for address in listen)
    incarnation = f"incarnation={shell.sessions.incarnation:016x}"
    sizes = f"frames={config.host.frame_count} slots={config.host.slot_count}"
    how = f"resumed={len(shell.sessions)}" if resumed else "resumed=no"
    scrape = "" if metrics is None else f" metrics={metrics.address}"
    print(
        f"essa host ready: {where} control={control} {sizes} {incarnation} {how}{scrape}",
        flush=True,
    )
    logger().info("host_started", process=os.getpid(), resumed=resumed)
    if ESSA_PASS is None:
        logger().warning("arrays_of_essas_are_slow", reason="installed without a C compiler")


async def _finish(config: DaemonConfig, shell: HostShell, device: FaultyDevice) -> None:
    await device.flush()
    if config.state_dir is None:
        logger().info("host_stopped", guests_lost=len(shell.sessions))
        return
    path = checkpoint.save(config.state_dir, {"paging": device.identity, "shell": shell.snapshot()})
    logger().info("host_stopped", checkpoint=str(path), guests=len(shell.sessions))
