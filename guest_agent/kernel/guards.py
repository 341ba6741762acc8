"""The guest's protections, one switch each.

Rules:
- Switching a field off removes exactly one protection; a named scenario then fails.
- Preset `seed` is the 2005 series as written, its known defects included; `fixed` adds the
  later corrections of the series and our own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Guards:
    """Which protections are on. R numbers are rows of the race catalogue.

    state_change: make_volatile holds PG_state_change and make_stable waits for it (R1).
    stable_lookup: find_get_page makes the page stable before it hands it out (R3).
    hold_reference: msync takes a reference before it makes a page stable (R2, R4).
    stable_before_clear: the page is stable before its change bit is cleared (R4, R5).
    reset_write_last: PG_writable is cleared only after the dirty transfer (R6).
    check_write: a page is P, or stable, before a writable pte to it is set (R7).
    check_write_waits: check_write really waits for PG_state_change; the series' loop has
      its sense inverted (R9).
    clear_change_once: SetPageUptodate clears C only on the first 0 -> 1 (R10).
    test_set_discarded: only the one that sets PG_discarded removes the page (R11, R12).
    remove_checks_state: a page removed in the ordinary way is marked PG_discarded if the
      host has discarded it meanwhile (R53).
    putback_checks_discarded: vmscan does not put a discarded page back on the LRU (R15).
    grace_period: a discarded page is freed only after every vCPU was enabled once (R17).
    reference_if_present: the fault handler takes no reference on a free page (R18).
    fault_irqs_off: the handler enables interrupts only when it holds its reference (R54).
    volatile_before_put: put_page tries make_volatile while it still holds its reference
      (R20); the series does so after the decrement.
    tolerate_discard: C seen set and op 6 reporting V+z means the page is gone (R50); the
      series has BUG_ON there.
    counts_in_one_load: make_volatile reads mapcount and count at one instant.
    flags_after_counts: make_volatile reads the flags after the counts.
    reset_write_counts: reset_write leaves PG_writable alone while anybody else refers to
      the page, who may have just set it for a mapping of its own.
    writeback_reference: a page under writeback is referenced until its completion
      interrupt has tried make_volatile (R20, R40); the series holds none.
    """

    state_change: bool = True
    stable_lookup: bool = True
    hold_reference: bool = True
    stable_before_clear: bool = True
    reset_write_last: bool = True
    check_write: bool = True
    check_write_waits: bool = True
    clear_change_once: bool = True
    test_set_discarded: bool = True
    remove_checks_state: bool = True
    putback_checks_discarded: bool = True
    grace_period: bool = True
    reference_if_present: bool = True
    fault_irqs_off: bool = True
    volatile_before_put: bool = True
    tolerate_discard: bool = True
    counts_in_one_load: bool = True
    flags_after_counts: bool = True
    reset_write_counts: bool = True
    writeback_reference: bool = True

    def without(self, *names: str) -> Guards:
        """These guards with the named ones off. Raises TypeError for an unknown name."""
        return replace(self, **dict.fromkeys(names, False))


FIXED: Final = Guards()
SEED: Final = FIXED.without(
    "check_write_waits",
    "putback_checks_discarded",
    "volatile_before_put",
    "tolerate_discard",
    "counts_in_one_load",
    "flags_after_counts",
    "reset_write_counts",
    "writeback_reference",
)
PRESETS: Final = {"seed": SEED, "fixed": FIXED}
