"""Guests that work for as long as they are let: `python -m bench.cluster.agents HOST FIRST COUNT`.

Several guests share this process and its event loop. When all of them are at work a line
"ready" goes to standard output; for every line on standard input then follows one JSON line
with what they have done so far. When standard input ends, they end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Final

import uvloop

from guest_agent.agent import GuestAgent, load_plan
from guest_agent.config import GuestConfig, MixConfig
from shared import telemetry
from shared.collection import collect_seldom
from shared.rpc.channel import parse_address

WITHOUT_END: Final = 1_000_000_000
"""Operations of a guest: more than it will ever do."""
LOOK_SECONDS: Final = 0.05


def _agent(host: str, number: int, *, vcpus: int, pages: int) -> GuestAgent:
    config = GuestConfig(
        host=parse_address(host, "HOST"),
        name=f"guest-{number}",
        page_count=pages,
        vcpu_count=vcpus,
        mix=MixConfig(seed=number, operations=WITHOUT_END),
        wait_seconds=60,
    )
    return GuestAgent(config, load_plan(config))


def _sample(agents: list[GuestAgent]) -> dict[str, float]:
    """What all did so far, and when that was."""
    now = [agent.figures() for agent in agents]
    return {
        "at": time.monotonic(),
        "requests": sum(one.requests for one in now),
        "commands": sum(one.commands for one in now),
        "messages": sum(one.messages for one in now),
        "discard_faults": sum(one.statistics.discard_faults for one in now),
        "errors": sum(one.statistics.integrity_errors + one.invariant_violations for one in now),
    }


async def _work(agents: list[GuestAgent]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(agent.run()) for agent in agents]
        while not all(agent.progress().requests for agent in agents):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        print("ready", flush=True)
        while await reader.readline():
            print(json.dumps(_sample(agents)), flush=True)
        for task in tasks:
            task.cancel()


def main() -> None:
    """Work until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--vcpus", type=int, required=True)
    parser.add_argument("--pages", type=int, required=True)
    given = parser.parse_args()
    telemetry.configure(level="error")
    numbers = range(given.first, given.first + given.count)
    agents = [_agent(given.host, n, vcpus=given.vcpus, pages=given.pages) for n in numbers]
    collect_seldom()
    uvloop.run(_work(agents))


if __name__ == "__main__":
    main()
