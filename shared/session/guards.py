"""The link's protections, one switch each."""

from __future__ import annotations

from dataclasses import dataclass

from shared.protection import protection


@dataclass(frozen=True, slots=True)
class LinkGuards:
    """What keeps a session exact over a network that loses, repeats and delays."""

    answer_repeats: bool = protection(
        "",
        "session.host_end.receive",
        "this project",
        "a command sent again is answered from the last outcome instead of executed twice",
    )
    match_answers: bool = protection(
        "",
        "session.guest_end.receive",
        "this project",
        "an answer counts for the command whose number it bears, and for no later one",
    )
    resend_outstanding: bool = protection(
        "",
        "session.guest_end.connection_lost",
        "this project",
        "commands that were not answered are sent again when a connection is lost",
    )
    dismiss_duplicate_faults: bool = protection(
        "",
        "session.guest_end.fault_received",
        "this project",
        "a discard fault that was delivered before is not handed out again",
    )
