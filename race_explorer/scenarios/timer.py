"""The timers of a guest's vCPUs, for scenarios in which time ends a grace period."""

from __future__ import annotations

from guest_agent.kernel.page import ANY, reads, writes
from race_explorer.scenarios.pieces import Device


class Timer(Device):
    """Ticks at any time; a tick that would find nothing to do is left out."""

    async def ticks(self, vcpu: int) -> None:
        """Interrupt the vCPU whenever it has a use for it, for ever. One step each."""
        kernel = self._kernel
        touched = (writes("irq", vcpu), reads("discard_list", ANY), reads("nohz"))
        while True:
            # Labelled as what may stand still at the end of a run.
            await kernel.schedule.wait_until(
                self, lambda: kernel.tick_wanted(vcpu), "idle", touched
            )
            kernel.tick(vcpu)
