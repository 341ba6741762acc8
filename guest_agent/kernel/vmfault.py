"""What a page fault ended in."""

from __future__ import annotations

from enum import Enum


class VmFault(Enum):
    """What handle_mm_fault answers; DISCARD is the series' VM_FAULT_DISCARD."""

    MINOR = "minor"
    MAJOR = "major"
    DISCARD = "discard"
    SIGBUS = "sigbus"
    SIGSEGV = "sigsegv"
