"""What `essa ctl` prints: tables and pictures for people, plain values for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from shared.arch import CONTENT_MASK, PAGE_SIZE, STATE_NAMES, USAGE_MASK, Content, Orc, Usage
from shared.essa.v1 import essa_pb2 as pb

ROW_PAGES: Final = 64
ROWS_MAX: Final = 256
"""Rows of a picture before it is cut; --first and --count choose others."""

_MODES: Final = {pb.MODE_SEED: "seed", pb.MODE_KVM: "kvm"}
_COLOURS: Final = {
    Usage.STABLE: "green",
    Usage.UNUSED: "bright_black",
    Usage.VOLATILE: "cyan",
    Usage.POTENTIAL_VOLATILE: "yellow",
}
_ZERO_LETTERS: Final = {"S": ".", "U": "_", "V": "x", "P": "x"}

# Values for programs


def plain(message: Message) -> dict[str, Any]:
    """A message as plain values: every field, by its name, numbers as numbers."""
    return {
        field.name: _plain_field(field.name, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
    }


def _plain_field(name: str, value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if name == "incarnation":
        return f"{value:016x}"
    if name == "mode":
        return _MODES.get(value, value)
    if name == "essa_counts":
        return {Orc(orc).name.lower(): count for orc, count in enumerate(value)}
    if name == "state_counts":
        return {STATE_NAMES[item.state]: item.page_count for item in value}
    return value


def runs(states: NDArray[np.uint8], first_pfn: int) -> Iterator[tuple[int, int, str]]:
    """Consecutive pages in one state: first pfn, number, state."""
    if not len(states):
        return
    starts = np.concatenate(([0], np.flatnonzero(states[1:] != states[:-1]) + 1))
    lengths = np.diff(np.append(starts, len(states)))
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        yield first_pfn + start, length, STATE_NAMES[int(states[start])]


def state_counts(states: NDArray[np.uint8]) -> dict[str, int]:
    """Pages by state name, those that occur."""
    numbers = np.bincount(states, minlength=16)
    return {STATE_NAMES[state]: int(n) for state, n in enumerate(numbers) if n}


# Tables for people


def size(pages: int) -> str:
    """A number of pages, and how much memory that is."""
    amount, unit = pages * PAGE_SIZE / 1024, "K"
    for larger in "MGT":
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{pages:,} ({amount:.4g}{unit})"


def _facts(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table


def _counter_rows(counters: pb.Counters) -> list[tuple[str, str]]:
    essas = ", ".join(
        f"{Orc(orc).name.lower()} {count:,}"
        for orc, count in enumerate(counters.essa_counts)
        if count
    )
    return [
        ("page-ins", f"{counters.page_in_count:,}"),
        ("page-outs", f"{counters.page_out_count:,}"),
        (
            "discards",
            f"{counters.unused_discard_count:,} unused, "
            f"{counters.volatile_discard_count:,} volatile, "
            f"{counters.potential_volatile_discard_count:,} potential volatile",
        ),
        ("discard faults", f"{counters.discard_fault_count:,}"),
        ("copies released", f"{counters.released_count:,}"),
        ("ESSAs", essas or "none"),
        ("machine checks", f"{counters.machine_check_count:,}"),
        ("I/O errors", f"{counters.io_error_count:,}"),
    ]


def status_table(status: pb.GetStatusResponse) -> Table:
    """The host."""
    rows = [
        ("incarnation", f"{status.incarnation:016x}"),
        ("version", status.version),
        ("guests", f"{status.guest_count:,} with {size(status.page_count)} pages"),
        ("frames", size(status.frame_count)),
        ("free frames", size(status.free_frame_count)),
        ("watermarks", f"{status.low_watermark:,} to {status.high_watermark:,} free frames"),
        ("policy", status.policy),
        ("slots", size(status.slot_count)),
        ("free slots", size(status.free_slot_count)),
        ("retired slots", f"{status.retired_slot_count:,}"),
        (
            "taken away",
            f"{size(status.withheld_frame_count)} frames, {size(status.withheld_slot_count)} slots",
        ),
        ("paging overcommitted", "yes" if status.paging_overcommitted else "no"),
        ("commands that wait", f"{status.parked_count:,}"),
        ("stuck for frames", "YES" if status.stuck else "no"),
    ]
    return _facts("Host", rows + _counter_rows(status.counters))


def guests_table(guests: list[pb.Guest]) -> Table:
    """All guests, one a row."""
    table = Table(title="Guests; in and out are pages read from and written to the paging device")
    table.add_column("name", style="bold")
    headings = ("pages", "resident", "vCPUs", "waiting", "faults", "in", "out", "discards")
    for heading in headings:
        table.add_column(heading, justify="right")
    for guest in guests:
        counters = guest.counters
        resident = sum(
            item.page_count
            for item in guest.state_counts
            if item.state & CONTENT_MASK == Content.RESIDENT
        )
        discards = counters.unused_discard_count + counters.volatile_discard_count
        discards += counters.potential_volatile_discard_count
        table.add_row(
            guest.name,
            f"{guest.page_count:,}",
            f"{resident:,}",
            str(guest.vcpu_count),
            f"{guest.parked_count:,}",
            f"{counters.discard_fault_count:,}",
            f"{counters.page_in_count:,}",
            f"{counters.page_out_count:,}",
            f"{discards:,}",
        )
    return table


def guest_table(guest: pb.Guest) -> Table:
    """One guest in detail."""
    states = ", ".join(
        f"{STATE_NAMES[item.state]} {item.page_count:,}" for item in guest.state_counts
    )
    rows = [
        ("id", str(guest.guest_id)),
        ("pages", size(guest.page_count)),
        ("states", states),
        ("vCPUs", str(guest.vcpu_count)),
        ("devices", str(guest.device_count)),
        ("mode", _MODES.get(guest.mode, "?")),
        ("ESSA facility", "on" if guest.essa_enabled else "off"),
        ("connections", f"{guest.stream_count} for commands, {int(guest.subscribed)} for faults"),
        ("commands that wait", f"{guest.parked_count:,}"),
        ("faults open", f"{guest.unacknowledged_fault_count:,}"),
        ("on release lists", f"{guest.release_entry_count:,}"),
    ]
    return _facts(f"Guest {guest.name}", rows + _counter_rows(guest.counters))


# The picture of a page map


def letter(state: int) -> str:
    """One page: its usage state, upper case resident, lower case preserved; zero has marks."""
    usage, content = tuple(STATE_NAMES[state])
    match content:
        case "r":
            return usage
        case "p":
            return usage.lower()
    return _ZERO_LETTERS[usage]


_LETTERS: Final = {state: letter(state) for state in STATE_NAMES}


def _row(states: NDArray[np.uint8], pfn: int) -> Text:
    text = Text(f"{pfn:#10x} ", style="default")
    for state in states.tolist():
        discarded = state == Usage.VOLATILE | Content.ZERO
        text.append(_LETTERS[state], "red" if discarded else _COLOURS[Usage(state & USAGE_MASK)])
    return text


def picture(states: NDArray[np.uint8], first_pfn: int) -> Iterator[Text]:
    """A letter for each page, ROW_PAGES in a row; rows like the one before are folded."""
    printed = same = 0
    before = b""
    for start in range(0, len(states), ROW_PAGES):
        row = states[start : start + ROW_PAGES]
        if row.tobytes() == before:
            same += 1
            continue
        if same:
            yield _folded(same)
        if printed == ROWS_MAX:
            rest = len(states) - start
            yield Text(f"{'':10} and {rest:,} more pages; --first and --count show them")
            return
        yield _row(row, first_pfn + start)
        printed, same, before = printed + 1, 0, row.tobytes()
    if same:
        yield _folded(same)


def _folded(count: int) -> Text:
    return Text(f"{'':10} ... {count:,} more row{'s' if count > 1 else ''} like this")


def legend(states: NDArray[np.uint8]) -> Text:
    """What the letters mean, and how many there are of each that occurs."""
    counts = state_counts(states)
    codes = {name: code for code, name in STATE_NAMES.items()}
    return Text("  ".join(f"{letter(codes[name])}={name} {n:,}" for name, n in counts.items()))
