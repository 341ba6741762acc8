"""The guest's protections, one switch each.

Rules:
- Switching a field off removes exactly one protection; a named scenario then fails.
- Preset `seed` is the 2005 series as written, its known defects included; `fixed` adds the
  later corrections of the series and our own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from shared.protection import protection


@dataclass(frozen=True, slots=True)
class Guards:
    """Which protections are on. Sources: patch n/6 of 2005-12-16, vN a later version."""

    # The two primitives.

    state_change: bool = protection(
        "R1",
        "page_hva.make_stable",
        "1/6",
        "make_volatile holds PG_state_change and make_stable waits for it",
    )
    state_change_trylock: bool = protection(
        "R22",
        "page_hva.make_volatile",
        "1/6",
        "make_volatile gives up when PG_state_change is taken; it may have interrupted the holder",
    )
    stable_if_resident: bool = protection(
        "R3",
        "page_hva.make_stable",
        "6/6",
        "one operation tests and sets; asking first and then setting stable loses to a discard",
    )
    counts_in_one_load: bool = protection(
        "",
        "page_hva._counts_agree",
        "this project",
        "make_volatile reads mapcount and count at one instant",
    )
    flags_after_counts: bool = protection(
        "",
        "page_hva._discardable",
        "this project",
        "make_volatile reads the flags after the counts",
    )
    tolerant_compare: bool = protection(
        "R34",
        "page_hva._counts_agree",
        "v5",
        "counts read at different times may cross; v4 has BUG_ON(mapcount > count - 1)",
    )
    private_blocks: bool = protection(
        "R32", "page_hva._flags_allow", "1/6", "a page with buffer heads never becomes volatile"
    )
    volatile_before_put: bool = protection(
        "R20",
        "page_alloc.put_page",
        "v5",
        "put_page tries make_volatile while it holds its reference; the series does so afterwards",
    )
    writeback_reference: bool = protection(
        "R20 R40",
        "writeback.write_page",
        "v5",
        "a page under writeback is referenced until its interrupt has tried make_volatile",
    )
    irq_never_stabilises: bool = protection(
        "R23",
        "writeback.end_page_writeback",
        "1/6",
        "no interrupt calls make_stable, which spins; it may have interrupted the holder",
    )

    # Finding pages.

    stable_lookup: bool = protection(
        "R2 R3",
        "page_cache.find_get_page",
        "1/6",
        "find_get_page makes the page stable before it hands it out",
    )
    gang_discards_failed: bool = protection(
        "R33",
        "page_cache.find_get_pages",
        "1/6",
        "a gang lookup discards the entry that failed, releases all it took and starts again",
    )
    stable_pin: bool = protection(
        "R2",
        "gup.follow_page",
        "1/6",
        "get_user_pages makes a page stable once it holds its reference",
    )
    touch_after_stable: bool = protection(
        "",
        "gup.follow_page",
        "this project",
        "a page that is pinned for a write is made dirty only when it is stable",
    )
    fixup_user_copy: bool = protection(
        "R41",
        "filemap.kernel_load",
        "v4",
        "a discard fault on the kernel's operand of a copy ends the copy instead of repeating it",
    )

    # Writable ptes and the change bit.

    hold_reference: bool = protection(
        "R2 R4", "msync.msync_pte", "6/6", "msync takes a reference before it makes a page stable"
    )
    stable_before_clear: bool = protection(
        "R4 R5 R49",
        "rmap.transfer_dirty",
        "6/6",
        "the page is stable before its change bit is cleared",
    )
    reset_write_last: bool = protection(
        "R6", "rmap.page_remove_rmap", "6/6", "PG_writable is cleared only after the dirty transfer"
    )
    reset_write_counts: bool = protection(
        "",
        "page_hva.reset_write",
        "this project",
        "reset_write leaves PG_writable alone while anybody else refers to the page",
    )
    check_write: bool = protection(
        "R7",
        "page_hva.check_write",
        "3/6",
        "a page is potential volatile, or stable, before a writable pte to it is set",
    )
    check_write_stable: bool = protection(
        "R8",
        "page_hva.check_write",
        "3/6",
        "a page that does not qualify is made stable: it might be volatile all the same",
    )
    check_write_waits: bool = protection(
        "R9",
        "page_hva.check_write",
        "v3",
        "check_write waits for PG_state_change; the series' loop has its sense inverted",
    )
    check_write_offset: bool = protection(
        "",
        "cow.unreferenced_offset",
        "this project",
        "mprotect counts the references there are; the series assumes one that nobody holds",
    )
    clear_change_once: bool = protection(
        "R10",
        "dirty.set_page_uptodate",
        "6/6",
        "SetPageUptodate clears the change bit only on the first 0 -> 1",
    )
    clear_change_first: bool = protection(
        "R10",
        "dirty.set_page_uptodate",
        "this project",
        "the change bit is cleared before PG_uptodate is set; who sees the flag may store at once",
    )
    tolerate_discard: bool = protection(
        "R50",
        "rmap.transfer_dirty",
        "this project",
        "C seen set and op 6 reporting V+z means the page is gone; the series has BUG_ON there",
    )

    # Discarding.

    test_set_discarded: bool = protection(
        "R11",
        "discard.discard_page",
        "1/6",
        "only the one that sets PG_discarded removes the page",
    )
    removal_test_set: bool = protection(
        "R12",
        "page_cache.mark_removed",
        "5/6",
        "an ordinary removal leaves a page alone that a discarder has removed",
    )
    remove_checks_state: bool = protection(
        "R53",
        "page_cache.mark_removed",
        "5/6",
        "a page removed in the ordinary way is marked PG_discarded if the host has discarded it",
    )
    discard_keeps_mapping: bool = protection(
        "R13 R14 R16",
        "discard._remove_discarded",
        "1/6",
        "page->mapping stays, so that a later fault finds the ptes that this discard missed",
    )
    discarded_before_unmap: bool = protection(
        "R13",
        "discard.discard_page",
        "1/6",
        "PG_discarded is set before the ptes are removed",
    )
    install_checks_discarded: bool = protection(
        "R13",
        "fault.map_page",
        "4/6",
        "a minor fault tests PG_discarded under the page table lock, just before it sets the pte",
    )
    unmap_takes_lock: bool = protection(
        "R14",
        "rmap._unmap_one",
        "v5",
        "unmap_all looks at a pte under the page table lock; a peek misses a pte about to be set",
    )
    fork_checks_discarded: bool = protection(
        "R16",
        "fork.copy_one_pte",
        "v3",
        "fork does not copy a pte to a page that is being discarded",
    )
    putback_checks_discarded: bool = protection(
        "R15",
        "lru.put_back",
        "v4",
        "vmscan does not put a discarded page back on the LRU",
    )
    unmap_ignores_locked: bool = protection(
        "R30",
        "rmap.unmap_all",
        "v3",
        "VM_LOCKED does not keep a discarded page's ptes",
    )
    dirty_stable_first: bool = protection(
        "R25",
        "cow.do_wp_page",
        "v5",
        "a write fault that dirties a shared page makes it stable first, or finds it discarded",
    )
    unlock_before_discard: bool = protection(
        "R26",
        "swapin.do_swap_page",
        "v7",
        "a fault that holds the page lock gives it up before it discards the page",
    )
    stable_copy_source: bool = protection(
        "R24",
        "cow.copy_page",
        "1/6",
        "copy-on-write makes the old page stable before it reads it",
    )
    mlock_marks_mapping: bool = protection(
        "R31",
        "mlock.sys_mlock",
        "2/6",
        "the mapping is marked before its pages are brought in; marked pages stay stable",
    )

    # The discard fault and the grace period.

    reference_if_present: bool = protection(
        "R18",
        "discard.get_page_if_present",
        "6/6",
        "the fault handler takes no reference on a free page",
    )
    fault_irqs_off: bool = protection(
        "R54",
        "discard.do_discard_fault",
        "6/6",
        "the handler enables interrupts only when it holds its reference",
    )
    pending_fault_irqs_off: bool = protection(
        "R17",
        "discard.await_fault",
        "this project",
        "a vCPU that waits for its discard fault counts as disabled for interrupts",
    )
    grace_period: bool = protection(
        "R17",
        "page_alloc.free_hot_cold_page",
        "5/6",
        "a discarded page is freed only after every vCPU was enabled for interrupts once",
    )
    grace_splices_own: bool = protection(
        "R19",
        "grace.OnEachCpu",
        "v4",
        "the list of the calling vCPU is spliced too; the 2006-04 version leaks it",
    )
    grace_calls_again: bool = protection(
        "R17 R19",
        "grace.OnEachCpu",
        "this project",
        "spliced pages wait for a second call: a vCPU may have faulted since it answered the first",
    )
    grace_idle_signs_off: bool = protection(
        "R19",
        "grace.SignOff",
        "v5",
        "an idle vCPU without ticks is not waited for, and is waited for again when it wakes",
    )
    discard_list_irq_safe: bool = protection(
        "R51",
        "grace.CallFunction",
        "v3",
        "the discarded list is changed with interrupts disabled: a last put may come from one",
    )
    free_keeps_irq_state: bool = protection(
        "R39",
        "grace.interrupts_back",
        "this project",
        "freeing a discarded page leaves interrupts as the caller had them",
    )

    # The page allocator.

    stable_first: bool = protection(
        "R37 R48",
        "page_alloc.alloc_zeroed_page",
        "v3",
        "a page is set stable before anything of its content is touched",
    )
    stable_unconditional: bool = protection(
        "R35",
        "page_alloc.alloc_page",
        "6/6",
        "allocation sets stable whatever the state; if-resident leaves a Uz or Vz page as it is",
    )
    unused_last: bool = protection(
        "R36",
        "page_alloc.free_page_now",
        "v3",
        "nothing touches a page's content after it is set unused",
    )
    reserved_before_unused: bool = protection(
        "R38",
        "page_alloc.free_page_now",
        "v3",
        "a reserved page is refused before it is set unused",
    )

    # The swap cache.

    swap_nodiscard_lookup: bool = protection(
        "R27",
        "swap.free_swap_and_cache",
        "v3",
        "free_swap_and_cache looks up without stabilising: discarding needs a lock it holds",
    )
    swap_slot_stable: bool = protection(
        "R28",
        "swap.try_to_free_swap",
        "v3",
        "a slot is freed only after its page in the swap cache was made stable",
    )

    def without(self, *names: str) -> Guards:
        """These guards with the named ones off. Raises TypeError for an unknown name."""
        return replace(self, **dict.fromkeys(names, False))


FIXED: Final = Guards()
SEED: Final = FIXED.without(
    "clear_change_first",
    "check_write_waits",
    "check_write_offset",
    "putback_checks_discarded",
    "volatile_before_put",
    "tolerate_discard",
    "counts_in_one_load",
    "flags_after_counts",
    "reset_write_counts",
    "writeback_reference",
    "discard_list_irq_safe",
    "fork_checks_discarded",
    "unmap_ignores_locked",
    "unmap_takes_lock",
    "touch_after_stable",
    "fixup_user_copy",
    "grace_calls_again",
)
PRESETS: Final = {"seed": SEED, "fixed": FIXED}
