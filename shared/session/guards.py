"""The link's protections, one switch each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkGuards:
    """What keeps a session exact over a network that loses, repeats and delays.

    answer_repeats: a command sent again is answered from the last outcome, or attached to
      the one still parked, instead of executed a second time.
    dismiss_duplicate_faults: a discard fault that was delivered before is not handed out.
    """

    answer_repeats: bool = True
    dismiss_duplicate_faults: bool = True
