"""The races of page host virtual assist, R1 to R54, each told in a sentence or two.

Rules:
- A row says who acts, in which order, and what is lost. How a row is answered is not said
  here: guards name their rows, and `catalogue` puts both together.
- `outside` is set for a row that no guard can answer because the model lacks what it needs.

Sources: n/6 is a patch of the posting of 2005-12-16, "[rfc][patch n/6] Page host virtual
assist"; v1 the one of 2005-09, v3 2006-04, v4 2006-08 and -09, v5 2007-05, v7 2009-03.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Race:
    """One row. outside: why it cannot happen in this model, or empty."""

    name: str
    story: str
    source: str
    outside: str = ""


ROWS: Final = (
    Race(
        "R1",
        "make_volatile has found every condition fulfilled; another vCPU takes a reference and "
        "makes the page stable; the first then sets it volatile under the other's use. The host "
        "discards a page in use: a lost write, stale data, or a BUG.",
        "1/6",
    ),
    Race(
        "R2",
        "A page is made stable by somebody who holds neither a reference nor its lock. Any "
        "make_volatile after that undoes it, rightly, and the page goes while it is used.",
        "1/6, 6/6",
    ),
    Race(
        "R3",
        "The guest asks for the state, the host discards the page, the guest sets it stable and "
        "goes on with content that is gone.",
        "1/6, 6/6",
    ),
    Race(
        "R4",
        "msync of a potential volatile page: the guest clears C, the host finds a clean page and "
        "discards it, the guest sets PG_dirty on what is gone. A store is lost, or zeroes are "
        "written over it on the disk.",
        "6/6",
    ),
    Race(
        "R5",
        "The last unmap moves C to PG_dirty in the same two steps, with the same gap.",
        "6/6",
    ),
    Race(
        "R6",
        "PG_writable goes before the change bit has moved; another vCPU then sets the page "
        "volatile instead of potential volatile, and the host discards it without a look at C. "
        "The reference of the pte being removed keeps make_volatile away, so it takes a clearing "
        "before the mapcount drops.",
        "6/6",
    ),
    Race(
        "R7",
        "A volatile page gets a writable pte and is stored to; the host discards it, for V is "
        "dropped without a look at C.",
        "3/6",
    ),
    Race(
        "R8",
        "Two vCPUs in check_write each take the other's reference for a foreign user and leave "
        "the page volatile, with writable ptes. It needs pages that were found without being "
        "made stable: the minor-fault patch, mprotect or fork.",
        "3/6; v5 tries once more",
    ),
    Race(
        "R9",
        "check_write loops while the bit it tests was clear. A vCPU that finds it taken falls "
        "through, works without it and clears it for its owner: R1 and R7 again.",
        "v1 and 3/6; corrected in v3",
    ),
    Race(
        "R10",
        "SetPageUptodate clears C of a page that was up to date already: the mark of a store "
        "through a pte goes, and with it the store.",
        "6/6",
    ),
    Race(
        "R11",
        "Two vCPUs fault on one discarded page and both remove it: it leaves the page tree "
        "twice and loses a reference too many. The page lock with a cleared mapping closes it "
        "as well; a look at the mapping without the lock does not.",
        "1/6",
    ),
    Race(
        "R12",
        "Reclaim removes a page in the ordinary way while a discarder does: two removals, one "
        "cache reference. Truncate cannot be the partner as long as its lookup stabilises.",
        "1/6, 5/6",
    ),
    Race(
        "R13",
        "A minor fault holds a page that it found without making it stable; a discarder unmaps "
        "and removes it; the fault then sets its pte. No rmap walk finds that pte any more: "
        "faults without end, or another page's content after reuse.",
        "4/6",
    ),
    Race(
        "R14",
        "unmap_all peeks at a pte without the page table lock, finds it empty and goes on, while "
        "the lock's holder is about to set it. Damage as in R13.",
        "1/6 by page_check_address; v5 has its condition the wrong way round; right in v7",
    ),
    Race(
        "R15",
        "Reclaim has isolated a page from the LRU, a discarder cannot unlink it there, reclaim "
        "puts it back: a page that is freed is on the list.",
        "v3; v4 does not put it back",
    ),
    Race(
        "R16",
        "fork copies the pte of a page that is being torn down into a table that unmap_all has "
        "passed or does not know yet: a pte to a freed page.",
        "v3",
    ),
    Race(
        "R17",
        "A vCPU has taken a discard fault and holds nothing but an absolute address. Another "
        "finishes the discard, the page is freed and reused, and the first discards the new "
        "owner's page: live data thrown away.",
        "5/6, 6/6",
    ),
    Race(
        "R18",
        "The fault handler takes a reference on a page that is free: it is on the free list and "
        "in use at once, and is freed twice.",
        "6/6",
    ),
    Race(
        "R19",
        "A grace period forgets somebody: v3 never splices the calling vCPU's list; 5/6 leaves a "
        "page in a pagevec that does not fill; a sign-off must neither wait for a vCPU that "
        "sleeps without ticks nor skip it once it wakes. Pages leak, or are freed early (R17).",
        "5/6, v3, v4, v5",
    ),
    Race(
        "R20",
        "put_page drops its reference and then offers the page, which by now may be freed and "
        "somebody else's. Reading all ten conditions at one instant does not help; a reference "
        "does.",
        "1/6; v5 offers it before",
    ),
    Race(
        "R21",
        "Offers are gathered and made in a batch; meanwhile a page of it is freed, reused or made "
        "stable. Damage as in R20 and R1.",
        "review of 2006 and 2007; given up in v5",
        outside="the series gave the batch up; every offer here is a call on the spot",
    ),
    Race(
        "R22",
        "The interrupt that ends a writeback comes while its own vCPU is inside make_volatile "
        "for that page, and waits for PG_state_change: dead lock.",
        "1/6",
    ),
    Race(
        "R23",
        "An interrupt calls make_stable, which spins for PG_state_change; the code it has "
        "interrupted holds it: dead lock.",
        "1/6, by implication",
    ),
    Race(
        "R24",
        "Copy-on-write reads a page that is discarded half way: a copy full of zeroes, or a "
        "discard fault in the kernel under its locks.",
        "1/6",
    ),
    Race(
        "R25",
        "A write fault on a shared page makes its pte writable and dirty although the page is "
        "discarded: PG_dirty on a discarded page, zeroes on the disk, or a BUG in the discard.",
        "v5",
    ),
    Race(
        "R26",
        "A fault that holds the page lock discards the page, which takes the page lock.",
        "v7",
    ),
    Race(
        "R27",
        "free_swap_and_cache, under the page table lock, looks a page up; a lookup that "
        "stabilises may discard, and discarding needs that lock: dead lock.",
        "1/6 for the swap lock; v3",
    ),
    Race(
        "R28",
        "A page in the swap cache is volatile, for its content is on the swap device; the slot is "
        "freed, the host discards the page. Anonymous data is gone, or reads as whatever the "
        "slot holds next.",
        "v3",
    ),
    Race(
        "R29",
        "A page of shared memory is in the swap cache and is discarded; the walk over its "
        "anon_vma finds none of its ptes: BUG.",
        "v7",
        outside="there is no shared memory file system; every page in the swap cache is anonymous",
    ),
    Race(
        "R30",
        "mlock marks a vma whose page is discarded already; nothing may unmap from a locked vma, "
        "and the discard insists: BUG.",
        "1/6 has the BUG_ON; v3",
    ),
    Race(
        "R31",
        "mlock brings pages in and marks the mapping afterwards: some are volatile when it "
        "returns, and go later. A promise of no faults is broken.",
        "2/6",
    ),
    Race(
        "R32",
        "A page with buffer heads becomes volatile and is discarded with them: leaked buffers, "
        "or a BUG on private data.",
        "1/6",
    ),
    Race(
        "R33",
        "A gang lookup fails to make one page stable and discards or releases others in its "
        "place: good pages are thrown away, references leak.",
        "v1; corrected in 1/6",
    ),
    Race(
        "R34",
        "mapcount and count are read one after the other; a mapping that comes or goes between "
        "them makes them cross, and an assertion that they cannot fires.",
        "v4; removed in v5",
    ),
    Race(
        "R35",
        "A page is freed while it is Vz and allocated with set-stable-if-resident, which leaves "
        "it so: its owner takes discard faults on a page that is in no cache, without end.",
        "1/6, 6/6",
    ),
    Race(
        "R36",
        "Freeing touches a page after it was set unused: an addressing exception on z/VM, lost "
        "data on KVM.",
        "Linux 234fdce892f9",
    ),
    Race(
        "R37",
        "Allocation touches a page, to zero it say, before it is set stable: an addressing "
        "exception.",
        "1/6; v3",
    ),
    Race(
        "R38",
        "A reserved page is set unused before the test that refuses to free it: the host drops "
        "what must stay.",
        "v3, v4",
    ),
    Race(
        "R39",
        "Freeing a discarded page enables interrupts whatever they were: its caller's critical "
        "section is open to them.",
        "v3 to v7",
    ),
    Race(
        "R40",
        "The reference of a page under writeback is not among those that make_volatile accounts "
        "for, or is counted when it is gone: the page stays stable for good, or goes too early.",
        "v4, v5",
    ),
    Race(
        "R41",
        "The kernel's side of a user copy lies on a discarded page: the instruction is nullified "
        "and repeated for ever, or ends in an oops.",
        "v4",
    ),
    Race(
        "R42",
        "A page is freed and its slot goes on a release list; the page is allocated and stored "
        "to, and the host pages it out; the list is then processed and drops the new copy.",
        "KVM, release lists",
    ),
    Race(
        "R43",
        "A guest address from a release list is used as an address of the host: a page that has "
        "nothing to do with it is dropped.",
        "KVM, Linux ca42c16638d5",
        outside="a list belongs to one guest and names slots; there is no second address space",
    ),
    Race(
        "R44",
        "An ESSA or a release list meets a huge mapping, or none, where a page table entry is "
        "expected: the host crashes.",
        "KVM",
        outside="frames are 4 KiB only; memory without backing answers 0x10, in mode `kvm`",
    ),
    Race(
        "R45",
        "Reclaim of a potential volatile page reads C as clear; the guest stores; the host takes "
        "the access away and drops the page: a lost write.",
        "6/6, by the rules for P",
    ),
    Race(
        "R46",
        "A guest is reset and its pages keep the no-DAT attribute, although the next kernel uses "
        "them for tables: stale translations.",
        "KVM, Linux 27072b8e18a7",
        outside="no page has a no-DAT attribute: ORC 7 is invalid; a rebooted guest is a new one",
    ),
    Race(
        "R47",
        "An ESSA falls between the start of migration and its first look at the states: an "
        "unused page arrives as stable, or a stable one as unused.",
        "KVM",
        outside="no guest migrates; a checkpoint is taken between two inputs of the host",
    ),
    Race(
        "R48",
        "A page in use was never set stable again: what is stored to it is lost when the host "
        "takes the frame of a page that it was told is unused.",
        "the contract of set-unused",
    ),
    Race(
        "R49",
        "The old primitive tests C and clears it in one, which leaves no room to make the page "
        "stable in between: R4.",
        "6/6",
    ),
    Race(
        "R50",
        "C is per frame and outlives writeback: a clean, read-only mapped, volatile page may have "
        "it set. The guest sees C, the host discards by right, make_stable fails, and BUG_ON "
        "stops a guest that did nothing wrong.",
        "6/6",
    ),
    Race(
        "R51",
        "A last reference is dropped from an interrupt while its vCPU is adding to the discarded "
        "list: an entry is overwritten, which is a leak or a double free, or the list's lock is "
        "taken twice.",
        "5/6",
    ),
    Race(
        "R52",
        "On a machine with dirty bits in its ptes the discard finds a dirty pte and BUGs.",
        "1/6, 3/6",
        outside="the change bit is the frame's, in its storage key; a pte has no dirty bit",
    ),
    Race(
        "R53",
        "Truncate removes a page that is Vz and not yet marked while another vCPU is on its way "
        "into the fault handler; freed without a grace period the page is reused, and R17 "
        "follows.",
        "5/6",
    ),
    Race(
        "R54",
        "The fault handler enables interrupts before it has its reference: it answers the call "
        "that ends the grace period, and R17 follows.",
        "5/6, 6/6",
    ),
)
