"""Every byte is checked: loads, stores and transfers against the ledger of versions.

Rules:
- A violation is an `IntegrityError` in the kernel's list, with the page's history; the run
  goes on, counts it, and ends with exit code 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guest_agent.kernel.content import ANONYMOUS_DISK, TAG_SIZE, BlockKey, LoadTicket, parse_tag
from guest_agent.kernel.page import Page
from shared.commands import LoadOutcome, Outcome

if TYPE_CHECKING:
    from guest_agent.kernel.kernel import Kernel


@dataclass(frozen=True, slots=True)
class IntegrityError:
    """Content that no legal history explains.

    what: one sentence. page: the page as it was. history: its last events, oldest first.
    """

    what: str
    page: str
    history: tuple[str, ...]


def report(kernel: Kernel, page: Page, what: str) -> None:
    """Count and keep an integrity error."""
    kernel.statistics.integrity_errors += 1
    error = IntegrityError(what, page.describe(), tuple(page.history))
    kernel.integrity_errors.append(error)
    if kernel.on_integrity_error is not None:
        kernel.on_integrity_error(error)


def content_key(page: Page) -> BlockKey | None:
    """Whose content a page holds: its file's block, or its own; None if it is nobody's."""
    if page.anonymous is not None:
        return ANONYMOUS_DISK, page.anonymous.number
    return None if page.mapping is None else page.mapping.block(page.index)


def is_current(page: Page) -> bool:
    """Whether what the page holds is what its key stands for: not so once it is truncated."""
    if page.anonymous is not None:
        return True
    return page.mapping is not None and page.mapping.pages.get(page.index) is page


def check_loaded(
    kernel: Kernel,
    page: Page,
    ticket: LoadTicket,
    outcome: Outcome,
    *,
    tags: int,
    copied: bytes | None = None,
) -> int | None:
    """Check what a load or a transfer saw; the version, or None after reporting an error.

    tags, copied: as for `judge`.
    """

    def admits(version: int) -> bool:
        return kernel.ledger.end_load(ticket, version, lambda: is_current(page))

    seen = judge(ticket, outcome, admits, tags=tags, copied=copied)
    if isinstance(seen, str):
        report(kernel, page, seen)
        return None
    return seen


def judge(
    ticket: LoadTicket,
    outcome: Outcome,
    admits: Callable[[int], bool],
    *,
    tags: int,
    copied: bytes | None = None,
) -> int | str:
    """The version that was seen, or in one sentence what is wrong.

    admits: whether a version may be seen. tags: how many 32-byte tags were read; all must be
    the same one. copied: what stands for version 0 of an anonymous page.
    """
    disk, block = ticket.key
    if copied is not None and outcome == LoadOutcome(copied, tags):
        if admits(0):
            return 0
        return f"anonymous page {block} lost stores, legal were {ticket.legal}"
    if not isinstance(outcome, LoadOutcome):
        return f"load of disk {disk} block {block} ended in {outcome}"
    if outcome.repeat != tags or len(outcome.data) != TAG_SIZE:
        return f"disk {disk} block {block} is torn: tags differ inside the page"
    seen = parse_tag(outcome.data)
    if seen is None:
        return f"disk {disk} block {block} holds no tag: {outcome.data.hex()}"
    if seen[:2] != ticket.key:
        return f"expected disk {disk} block {block}, found disk {seen[0]} block {seen[1]}"
    if not admits(seen[2]):
        return f"disk {disk} block {block}: version {seen[2]} seen, legal were {ticket.legal}"
    return seen[2]
