"""The page cache is an exact LRU: its hits equal those of stack distances.

Method: a shipped trace of real file accesses through the system calls of one vCPU, without
hints and without host pressure, the cache limited to a number of pages. A recorded mapping is
one run of accesses, as in `essa trace stat`.
"""

from __future__ import annotations

import pytest

from guest_agent.kernel.kernel import Hints
from guest_agent.kernel.syscalls import sys_read, sys_write
from guest_agent.workload.events import Map, Read, Write
from guest_agent.workload.stackdist import lru_curve
from guest_agent.workload.tracefile import load, resolve
from tests.kernel.world import World

TRACE = load(resolve("search"))
CURVE = lru_curve(TRACE)
FILE_BLOCKS = 1 << 20


@pytest.mark.parametrize("percent", [10, 50])
def test_hits_equal_the_exact_figure(percent: int) -> None:
    size = CURVE.size_at(percent)
    assert CURVE.access_count <= 20_000
    world = World(page_count=size + 64, hints=Hints.NONE, cache_limit=size)

    async def replay() -> None:
        for event in TRACE.events():
            if isinstance(event, Read | Write | Map):
                store = isinstance(event, Write) or (isinstance(event, Map) and event.writable)
                file = world.kernel.open_file(event.file + 2, 2, event.file * FILE_BLOCKS)
                call = sys_write if store else sys_read
                await call(world.cpu, file, event.page, event.count)

    world.run(replay())
    counted = world.kernel.statistics
    assert counted.cache_misses == CURVE.misses(size)
    assert counted.cache_hits == CURVE.access_count - CURVE.misses(size)
    assert not counted.integrity_errors
