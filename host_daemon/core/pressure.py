"""Frames and slots that an operator takes away for a while, and gives back.

Rules:
- Nothing is taken from a page: what is withheld is not given out again once it is free. With
  frames in use withheld, reclaim finds the pool short and works.
- Withheld frames and slots are part of a snapshot.
"""

from __future__ import annotations

from typing import Final

from host_daemon.core.config import HostConfig
from host_daemon.core.machine import Machine
from shared.errors import InvalidRequestError

FRAMES_LEFT_MIN: Final = 16
"""Frames above the high watermark that stay: reclaim comes to an end, and a command that has
its page keeps it until it is executed."""


def limits(config: HostConfig) -> tuple[int, int]:
    """How many frames and how many slots can be withheld at most."""
    frames = config.frame_count - config.high_watermark - FRAMES_LEFT_MIN
    return max(0, frames), config.slot_count


def withhold(machine: Machine, frames: int, slots: int) -> None:
    """Withhold so many instead of as many as before. Raises InvalidRequestError."""
    frames_max, slots_max = limits(machine.config)
    for field, count, high in (("frames", frames, frames_max), ("slots", slots, slots_max)):
        if not 0 <= count <= high:
            raise InvalidRequestError(
                f"{field} withheld would be {count}; it must be 0 to {high}",
                field=field,
                value=count,
                high=high,
            )
    machine.frames.pool.withheld = frames
    machine.slots.pool.withheld = slots
