"""A guest's metrics say what its report says.

Method: a whole guest against a whole host in one process, read before, and after its end.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from guest_agent.agent import GuestAgent
from guest_agent.metrics import FAMILIES, GuestMetrics
from guest_agent.workload.replay import Access
from tests.guest_shell.test_agent import SECONDS_MAX, busy_plan, config
from tests.rpc.world import running_host

Samples = dict[tuple[str, ...], float]


async def read(agent: GuestAgent) -> Samples:
    found: Samples = {}
    for metric in await GuestMetrics(agent.figures).collect():
        for sample in metric.samples:
            assert sample.labels["guest"] == "web"
            others = [value for key, value in sample.labels.items() if key != "guest"]
            found[(sample.name, *others)] = sample.value
    return found


def test_what_is_served_is_what_is_reported(tmp_path: Path) -> None:
    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 48) as world:
            agent = GuestAgent(config(world.listen, "web", access=Access.MMAP), busy_plan(3, 600))
            before = await read(agent)
            assert before["essa_guest_requests_total",] == 0
            assert before["essa_guest_planned_requests",] == 600
            report = await agent.run()
            after, plain = await read(agent), report.plain()
        assert {name for name, *_ in before} == {name for name, *_ in after}
        assert len(before) >= len(FAMILIES) - 1  # a trace has no operations
        for field in ("requests", "messages", "commands", "reboots", "integrity_errors"):
            assert after[f"essa_guest_{field}_total",] == plain[field]
        for field in ("cache_hits", "disk_reads", "disk_writes", "discard_faults"):
            assert after[f"essa_guest_{field}_total",] >= plain[field] > 0
        for orc in ("set_volatile", "set_stable_if_resident"):
            issued = after["essa_guest_instructions_total", orc]
            assert issued >= plain["essa"][orc] > 0
        assert after["essa_guest_pages",] == 192
        assert after["essa_guest_commands_in_flight",] == 0

    asyncio.run(body())
