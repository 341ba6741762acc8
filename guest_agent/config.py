"""What one guest is and does, parsed once, checked at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from guest_agent.kernel.grace import Grace
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import Hints, KernelConfig
from guest_agent.workload.mixed import Weights
from guest_agent.workload.plan import Spread
from guest_agent.workload.replay import Access
from shared.arch import Mode
from shared.rpc.channel import Address

PAGES_MIN: Final = 64
"""Below this a guest can hardly hold the pages that its vCPUs have in hand at once."""
PAGES_MAX: Final = 1 << 20
"""4 GiB: each page is an object of the guest's kernel."""


class ConfigError(Exception):
    """Values that make no sense; one line for the user."""


@dataclass(frozen=True, slots=True)
class MixConfig:
    """A mixed workload instead of traces: so many operations, drawn from a seed by weight."""

    seed: int
    operations: int
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """One guest.

    page_count: its memory in 4 KiB pages. disk: the file of its own disk; None for one that
    is gone at the end. request_limit: only so many requests of each trace. cache_limit: pages
    that its page cache may hold. wait_seconds: for a host that is not there yet, or a name.
    reconnect_seconds: for one that is gone. retransmit_seconds: for an answer, until the
    command is sent again. perturb: seed of yields at points, or None.
    mix: what it does instead of replaying traces. swap_pages: of its swap device.
    stall_seconds: without a step of its workload for so long it gives up, or None.
    metrics: where scrapers find it, or None. record: the directory of the run that it records.
    """

    host: Address
    name: str
    page_count: int
    vcpu_count: int = 1
    device_count: int = 8
    disk: Path | None = None
    hints: Hints = Hints.VOLATILE
    guards: Guards = FIXED
    mode: Mode = Mode.SEED
    traces: tuple[Path, ...] = ()
    access: Access = Access.SYSCALL
    spread: Spread = Spread.PROCESS
    request_limit: int | None = None
    cache_limit: int | None = None
    wait_seconds: float = 10.0
    reconnect_seconds: float = 60.0
    retransmit_seconds: float = 1.0
    perturb: int | None = None
    mix: MixConfig | None = None
    swap_pages: int = 0
    minor_faults: bool = False
    dirty_accounting: bool = False
    grace: Grace = Grace.CALL
    stall_seconds: float | None = None
    metrics: Address | None = None
    record: Path | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot run."""
        self._at_least("--memory in pages", self.page_count, PAGES_MIN)
        self._at_least("--vcpus", self.vcpu_count, 1)
        self._at_least("--requests", self.request_limit, 1)
        self._at_least("--swap in pages", self.swap_pages, 0)
        self._at_least("--operations", None if self.mix is None else self.mix.operations, 1)
        self._at_least("--cache-pages", self.cache_limit, 2 * self.vcpu_count)
        if self.cache_limit is not None and self.cache_limit >= self.page_count:
            raise ConfigError(
                f"--cache-pages is {self.cache_limit}; the guest has {self.page_count} pages in all"
            )
        if self.mode is Mode.KVM and self.hints is Hints.VOLATILE:
            raise ConfigError(
                "mode kvm has no discard faults, so volatile pages would vanish unseen; "
                "use --hints unused or none"
            )

    @property
    def essa_enabled(self) -> bool:
        """Whether the guest asks for the ESSA facility at all."""
        return self.hints is not Hints.NONE

    def kernel(self) -> KernelConfig:
        """What its kernel is made from."""
        return KernelConfig(
            page_count=self.page_count,
            vcpu_count=self.vcpu_count,
            hints=self.hints,
            guards=self.guards,
            cache_limit=self.cache_limit,
            swap_pages=self.swap_pages,
            minor_faults=self.minor_faults,
            dirty_accounting=self.dirty_accounting,
            grace=self.grace,
        )

    def _at_least(self, what: str, value: int | None, low: int) -> None:
        if value is not None and value < low:
            raise ConfigError(f"{what} is {value}; it must be at least {low}")
