"""`essa ctl`: look at a running host, evict pages by hand, inject faults."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from essa_cli import ctl_faults, ctl_plan, ctl_watch
from essa_cli import ctl_views as views
from essa_cli.control import Control, ControlTyper, Json, Method, ask, print_json
from essa_cli.errors import CliError
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import DEFAULT_CONTROL

EVICT_RANGE_PAGES: Final = 16_384
EVICT_RANGES_A_CALL: Final = 16
"""Small enough for the call's deadline, and far below the wire's bounds."""

Name = Annotated[str, typer.Argument(help="An open guest.", metavar="GUEST")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    ctl = ControlTyper(
        no_args_is_help=True,
        help="Look at a running host, evict pages by hand, make things go wrong.",
        epilog="Example: essa ctl status --control unix:essa-control.sock",
    )
    ctl.command("status", epilog="Example: essa ctl status --json")(status)
    ctl.command("guests", epilog="Example: essa ctl guests   or   essa ctl guests web-1")(guests)
    ctl.command("page-map", epilog="Example: essa ctl page-map web-1 --first 0x400 --count 512")(
        page_map
    )
    ctl.command("evict", epilog="Example: essa ctl evict web-1 0x400 0x500-0x5ff")(evict)
    ctl_faults.register(ctl)
    ctl_plan.register(ctl)
    ctl_watch.register(ctl)
    app.add_typer(ctl, name="ctl")


def status(control: Control = DEFAULT_CONTROL, as_json: Json = False) -> None:
    """Show the host: memory, paging, what it did so far."""

    async def work(method: Method) -> Any:
        return await method("GetStatus", pb.GetStatusRequest())

    reply = ask(control, work)
    if as_json:
        print_json(views.plain(reply))
    else:
        Console().print(views.status_table(reply))


def guests(
    name: Annotated[
        str | None, typer.Argument(help="Show this one in detail.", metavar="[GUEST]")
    ] = None,
    control: Control = DEFAULT_CONTROL,
    as_json: Json = False,
) -> None:
    """Show all guests, or one in detail."""

    async def one(method: Method) -> Any:
        return (await method("GetGuest", pb.GetGuestRequest(name=name))).guest

    async def every(method: Method) -> Any:
        return list((await method("ListGuests", pb.ListGuestsRequest())).guests)

    if name is not None:
        guest = ask(control, one)
        if as_json:
            print_json(views.plain(guest))
        else:
            Console().print(views.guest_table(guest))
        return
    found = ask(control, every)
    if as_json:
        print_json([views.plain(guest) for guest in found])
    else:
        Console().print(views.guests_table(found))


def _number(text: str, option: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= 0xFFFF_FFFF:
        raise CliError(f"{option} is {text!r}; it must be a page number such as 1024 or 0x400")
    return number


def page_map(
    name: Name,
    first: Annotated[str, typer.Option(help="First page.", metavar="PFN")] = "0",
    count: Annotated[
        str | None, typer.Option(help="Number of pages. [default: all]", metavar="N")
    ] = None,
    control: Control = DEFAULT_CONTROL,
    as_json: Json = False,
) -> None:
    """Draw a guest's memory: a letter for each page, rows that repeat folded.

    Upper case is resident, lower case is on the paging device: S stable, U unused, V volatile,
    P potential volatile. Of pages without content, . is stable, _ unused, x discarded.
    """
    first_pfn = _number(first, "--first")
    wanted = None if count is None else _number(count, "--count")

    async def work(method: Method) -> NDArray[np.uint8]:
        pieces: list[bytes] = []
        pfn = first_pfn
        while wanted is None or pfn < first_pfn + wanted:
            request = pb.GetPageMapRequest(name=name, first_pfn=pfn)
            if wanted is not None:
                request.page_count = min(first_pfn + wanted - pfn, 1 << 22)
            reply = await method("GetPageMap", request)
            pieces.append(reply.states)
            pfn += len(reply.states)
            if not reply.states or pfn >= reply.guest_page_count:
                break
        return np.frombuffer(b"".join(pieces), np.uint8)

    states = ask(control, work)
    if as_json:
        print_json(
            {
                "guest": name,
                "first_pfn": first_pfn,
                "page_count": len(states),
                "state_counts": views.state_counts(states),
                "runs": [list(run) for run in views.runs(states, first_pfn)],
            }
        )
        return
    console = Console(soft_wrap=True, highlight=False)
    for line in views.picture(states, first_pfn):
        console.print(line)
    console.print(views.legend(states))


def _ranges(texts: list[str]) -> list[range]:
    ranges = []
    for text in texts:
        low, dash, high = text.partition("-")
        start = _number(low, "PAGES")
        stop = _number(high, "PAGES") + 1 if dash else start + 1
        if stop <= start:
            raise CliError(f"PAGES is {text!r}; a range must not end before it begins")
        ranges.append(range(start, stop))
    return ranges


def _pieces(ranges: list[range]) -> list[range]:
    """Ranges that are small enough for one call."""
    step = EVICT_RANGE_PAGES
    return [pages[i : i + step] for pages in ranges for i in range(0, len(pages), step)]


def evict(
    name: Name,
    pages: Annotated[
        list[str] | None,
        typer.Argument(help="Page numbers and ranges: 7, 0x400, 16-31.", metavar="[PAGES]..."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Evict every page.")] = False,
    control: Control = DEFAULT_CONTROL,
    as_json: Json = False,
) -> None:
    """Take pages away from a guest, as the host does when it is short of frames."""
    if everything == bool(pages):
        raise CliError("PAGES is missing; name pages or ranges, or give --all instead")
    ranges = _ranges(pages or [])

    async def work(method: Method) -> list[int]:
        wanted = ranges
        if everything:
            guest = (await method("GetGuest", pb.GetGuestRequest(name=name))).guest
            wanted = [range(guest.page_count)]
        totals = [0, 0, 0]
        parts = iter(_pieces(wanted))
        while batch := list(islice(parts, EVICT_RANGES_A_CALL)):
            request = pb.EvictPagesRequest(name=name)
            for part in batch:
                request.ranges.add(first_pfn=part.start, page_count=len(part))
            reply = await method("EvictPages", request)
            counts = (reply.discarded_count, reply.page_out_count, reply.skipped_count)
            totals = [a + b for a, b in zip(totals, counts, strict=True)]
        return totals

    discarded, page_outs, skipped = ask(control, work)
    if as_json:
        print_json({"discarded": discarded, "page_outs": page_outs, "skipped": skipped})
        return
    print(
        f"{discarded} discarded, {page_outs} on their way to the paging device, "
        f"{skipped} skipped (not resident, or leaving already)"
    )
