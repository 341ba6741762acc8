"""A booted guest with one file, for tests of single kernel functions."""

from __future__ import annotations

from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import Hints, KernelConfig
from guest_agent.kernel.lru import LruKind
from guest_agent.kernel.page import Mapping, Page
from guest_agent.kernel.syscalls import sys_read
from race_explorer.straight import Straight
from shared.arch import STATE_MASK, STATE_NAMES


class World(Straight):
    """`file` is number 1 on disk 1; `cpu` is vCPU 0."""

    def __init__(
        self,
        page_count: int = 16,
        *,
        guards: Guards = FIXED,
        hints: Hints = Hints.VOLATILE,
        cache_limit: int | None = None,
        essa_enabled: bool = True,
        swap_pages: int = 0,
        minor_faults: bool = False,
        lru: LruKind | None = None,
    ) -> None:
        config = KernelConfig(
            page_count,
            1,
            hints,
            guards,
            cache_limit,
            swap_pages=swap_pages,
            minor_faults=minor_faults,
            lru=lru,
        )
        super().__init__(config, essa_enabled=essa_enabled)
        self.cpu = self.kernel.cpus[0]
        self.file: Mapping = self.kernel.open_file(1, disk=1, first_block=0)
        self.run(self.kernel.boot(self.cpu))

    def state(self, page: Page) -> str:
        """The page's state as the host has it, such as `Vr`."""
        return STATE_NAMES[self.host.state_byte(self.guest_id, page.pfn) & STATE_MASK]

    def key(self, page: Page) -> int:
        """The page's storage key."""
        return self.host._machine.guests[self.guest_id].keys[page.pfn]

    def cached(self, index: int = 0) -> Page:
        """Read a page of the file into the cache."""
        self.run(sys_read(self.cpu, self.file, index, 1))
        return self.file.pages[index]
