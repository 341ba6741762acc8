"""How much is measured, and what is promised of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ARRAY_LENGTH: Final = 16_384
"""ESSAs of one array."""
GATHERED_VCPUS: Final = 32
VCPUS: Final = 1024
"""Of every guest, so that a message that sets a scene up carries that many commands."""

TARGETS: Final = {
    "unary_essa_vs_echo": 0.85,
    "array_essa_vs_echo": 0.7,
    "gathered_vs_single": 5.0,
    "array_essas_per_second": 10e6,
    "host_bytes_per_page": 8.0,
}
"""The last is an upper bound, the others are lower ones."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes of one run; the defaults are what `make bench` does.

    rounds: of each comparison. unary_calls: of each side in a round, one in flight; three
    times as many with several in flight. array_batches: arrays in a round; together they touch
    every page of their guest once. echo_repeats: how often the echo gets the same arrays.
    preserved_pages, resident_pages: how many of these pages are on the paging device, and in
    frames. gathered_messages: of 32 commands in a round; half as many commands go singly.
    memory_pages: the guest whose cost is measured; a page in every memory_stride goes to the
    paging device.
    """

    rounds: int = 12
    unary_calls: int = 250
    unary_in_flight: int = 32
    array_batches: int = 16
    arrays_in_flight: int = 4
    echo_repeats: int = 2
    preserved_pages: int = 32_768
    resident_pages: int = 65_536
    gathered_messages: int = 200
    memory_pages: int = 16 << 20
    memory_stride: int = 1024
    memory_frames: int = 2048

    @property
    def array_pages(self) -> int:
        """Pages of the guest whose states are mixed."""
        return self.array_batches * ARRAY_LENGTH


TINY: Final = Settings(
    rounds=2,
    unary_calls=4,
    unary_in_flight=2,
    array_batches=1,
    arrays_in_flight=1,
    preserved_pages=2048,
    resident_pages=2048,
    gathered_messages=2,
    memory_pages=64 << 10,
    memory_stride=64,
)
"""Shows that everything works, and nothing about speed."""
