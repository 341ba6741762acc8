"""The daemon's policy for the host's own work: which stage runs next, and when none should.

Rules:
- Commands that can go on and faults come first, then page moves under way, then the next
  victim, and that only while reclaim is wanted.
- A victim is taken all the way before the next one is chosen, so the stages that wait are
  few and looking through them is cheap.
- A turn does at most SLICE stages; what is left comes after the events that arrived meanwhile.
- Partial release lists are drained when they are RELEASE_SECONDS old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from host_daemon.core.effects import CHOOSE_VICTIM, Stage, StageKind
from host_daemon.core.host import Host

SLICE: Final = 128
RELEASE_SECONDS: Final = 0.5

_OUTWARD: Final = frozenset(
    (
        StageKind.REMOVE_ACCESS,
        StageKind.READ_CHANGE_BIT,
        StageKind.COMMIT,
        StageKind.SUBMIT_PAGE_OUT,
    )
)


class StageRunner:
    """Runs the host's stages on the event loop.

    apply_effects: called after every stage. takes_faults: whether a guest can be sent a
    discard fault now.
    """

    def __init__(
        self,
        host: Host,
        apply_effects: Callable[[], None],
        takes_faults: Callable[[int], bool],
    ) -> None:
        self._host = host
        self._apply_effects = apply_effects
        self._takes_faults = takes_faults
        self._continuation: asyncio.Handle | None = None
        self._release_timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def work(self) -> None:
        """Run what should run now, at most a slice of it. Called after every input."""
        if self._continuation is not None or self._stopped:
            return
        for _ in range(SLICE):
            stage = self._next()
            if stage is None:
                self._apply_effects()  # looking for work may have turned reclaim on or off
                return
            self._host.run(stage)
            self._apply_effects()
        self._continuation = asyncio.get_running_loop().call_soon(self._continue)

    def take_out(self, guest_id: int, pfn: int) -> bool:
        """Run all stages of a victim; whether that ended in a page-out under way."""
        submitted = False
        while stage := next(
            (
                stage
                for stage in self._host.enabled()
                if stage.guest_id == guest_id and stage.number == pfn and stage.kind in _OUTWARD
            ),
            None,
        ):
            self._host.run(stage)
            self._apply_effects()
            submitted = stage.kind is StageKind.SUBMIT_PAGE_OUT
        return submitted

    def stop(self) -> None:
        """Run nothing any more."""
        self._stopped = True
        for handle in (self._continuation, self._release_timer):
            if handle is not None:
                handle.cancel()

    def _continue(self) -> None:
        self._continuation = None
        self.work()

    def _next(self) -> Stage | None:
        best: Stage | None = None
        for stage in self._host.enabled_stages():
            kind = stage.kind
            if kind is StageKind.RESUME:
                return stage  # they come in the order in which the commands arrived
            if kind is StageKind.DRAIN_RELEASE_LIST:
                self._arm_release_timer()
            elif (best is None or kind < best.kind) and (
                kind is not StageKind.DELIVER_FAULT or self._takes_faults(stage.guest_id)
            ):
                best = stage
        if best is None and self._host.reclaim_wanted() and self._host.has_victim():
            return CHOOSE_VICTIM
        return best

    def _arm_release_timer(self) -> None:
        if self._release_timer is None:
            loop = asyncio.get_running_loop()
            self._release_timer = loop.call_later(RELEASE_SECONDS, self._drain_release_lists)

    def _drain_release_lists(self) -> None:
        self._release_timer = None
        for stage in self._host.enabled():
            if stage.kind is StageKind.DRAIN_RELEASE_LIST:
                self._host.run(stage)
        self._apply_effects()
        self.work()
