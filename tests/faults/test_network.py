"""Goal: guests survive what a network does below the calls: latency, broken connections, loss, a
narrow link, a partition.

Method: latency and cuts by a proxy of our own; loss by nft's numgen, rate by tbf, partition by
the link, in a network namespace with real processes. Namespaces need root and are skipped, with
the reason, where they are forbidden.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.faults import Kind
from shared.rpc.channel import Address
from tests.faults.cluster import cluster, verdict
from tests.faults.proxy import late
from tests.process.host_process import ESSA, essa_here

SECONDS_MAX = 60
NAMESPACE = f"essa-{os.getpid()}"
PORT = 7001


def test_latency_and_broken_connections(tmp_path: Path) -> None:
    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), cluster(tmp_path) as world:
            assert world.listen.path
            async with late(tmp_path / "p", world.listen.path, 0.003) as proxy:
                world.listen = Address(path=str(proxy.path))
                world.inject(Kind.EVICT, rate=500, count=0)
                running = asyncio.ensure_future(world.run(5, 60))
                for _ in range(2):
                    await proxy.carried.wait()
                    proxy.cut()
                reports = await running
                assert verdict(reports) == (0, 0)
                assert proxy.connection_count > 2, "nothing was cut"
                world.injector.stop(None)

    asyncio.run(body())


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def inside(*words: str, text: str = "") -> str:
    command = ["ip", "netns", "exec", NAMESPACE, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, input=text)
    return done.stdout


@pytest.fixture(scope="module")
def namespace() -> Iterator[None]:
    """A network of its own, with nothing but its loopback."""
    missing = [tool for tool in ("ip", "nft", "tc") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    try:
        ip("netns", "add", NAMESPACE)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are forbidden here: {error.stderr.strip()}")
    try:
        ip("-n", NAMESPACE, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "del", NAMESPACE)


@contextmanager
def loss(percent: int) -> Iterator[None]:
    """So many of a hundred packets are dropped."""
    table = f"""
        table inet faults {{
          chain out {{
            type filter hook output priority 0;
            meta l4proto tcp numgen random mod 100 < {percent} counter drop
          }}
        }}
    """
    inside("nft", "-f", "-", text=table)
    yield
    found = re.search(r"counter packets (\d+)", inside("nft", "list", "table", "inet", "faults"))
    inside("nft", "delete", "table", "inet", "faults")
    assert found is not None
    assert int(found[1]) > 0, "no packet was lost"


@contextmanager
def rate(kilobits: int) -> Iterator[None]:
    """The link carries no more than this."""
    limit = ("rate", f"{kilobits}kbit", "burst", "8kb", "latency", "100ms")
    inside("tc", "qdisc", "add", "dev", "lo", "root", "tbf", *limit)
    yield
    found = re.search(r"overlimits (\d+)", inside("tc", "-s", "qdisc", "show", "dev", "lo"))
    inside("tc", "qdisc", "del", "dev", "lo", "root")
    assert found is not None
    assert int(found[1]) > 0, "the link was wide enough"


@contextmanager
def partition(seconds: float) -> Iterator[None]:
    """Nobody reaches anybody for a while."""
    ip("-n", NAMESPACE, "link", "set", "lo", "down")
    time.sleep(seconds)
    ip("-n", NAMESPACE, "link", "set", "lo", "up")
    yield


@contextmanager
def host(directory: Path) -> Iterator[str]:
    """A host in the namespace; where its operators reach it from outside."""
    control = f"unix:{directory / 'c'}"
    process = subprocess.Popen(
        [
            *("ip", "netns", "exec", NAMESPACE, *ESSA, "host", "--memory", "1M"),
            *("--listen", f"127.0.0.1:{PORT}", "--control", control),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        yield control
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS_MAX)


@pytest.mark.process
def test_loss_a_narrow_link_and_a_partition(namespace: None, tmp_path: Path) -> None:
    """One guest through all three, one after the other."""
    del namespace
    with host(tmp_path) as control:
        guest = subprocess.Popen(
            [
                *("ip", "netns", "exec", NAMESPACE, *ESSA, "guest", "--name", "web-1"),
                *("--host", f"127.0.0.1:{PORT}", "--memory", "1M", "--vcpus", "3", "--json"),
                *("--workload", "mixed", "--operations", "3000", "--seed", "5", "--stall", "40"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            deadline = time.monotonic() + SECONDS_MAX
            evict = ("inject", "evict", "--guest", "web-1", "--rate", "500", "--count", "0")
            while essa_here("ctl", *evict, "--control", control).returncode:
                assert time.monotonic() < deadline, "no guest"
            with loss(3):
                time.sleep(1)
            with rate(2000):
                time.sleep(1)
            with partition(1.5):
                pass
            assert guest.poll() is None, "the guest was done before it met a fault"
            out, _ = guest.communicate(timeout=SECONDS_MAX)
        finally:
            guest.kill()
            guest.communicate()
    report = json.loads(out)
    assert guest.returncode == 0
    assert (report["integrity_errors"], report["invariant_violations"]) == (0, 0)
    assert report["reboots"] == 0
