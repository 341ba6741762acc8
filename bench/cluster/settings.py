"""How much is measured, and what is promised of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

SHARE_OF_BEST_AIM: Final = 0.8
"""Requests/s with the most guests, divided by the best."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes of one run.

    guests: how many at a time, in turn. vcpu_count: of each. guest_pages, guest_frames: its
    memory, and its share of the host's. seconds: of steady state; the load runs warm_seconds
    before. processes: that share the guests between them, at most. probe_pause_seconds:
    between two unary calls, so that the probe is no load of its own. idle_guests: of the
    measure of memory.
    """

    guests: tuple[int, ...] = (4, 16, 64)
    seconds: float = 20.0
    vcpu_count: int = 8
    guest_pages: int = 512
    guest_frames: int = 256
    warm_seconds: float = 3.0
    processes: int = max(2, os.cpu_count() or 2)
    probe_pause_seconds: float = 0.01
    idle_guests: int = 64
