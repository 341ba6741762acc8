"""`essa ctl inject` and `essa ctl faults`: make things go wrong, see what that has done, stop it.

Rules:
- A command for each kind, with the options that `shared.faults` says it takes; nothing about a
  kind is said here a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from essa_cli.control import Control, ControlTyper, Json, Method, ask, print_json
from essa_cli.errors import CliError
from essa_cli.processes import strike
from shared.essa.v1 import essa_pb2 as pb
from shared.fault_fields import FIELDS
from shared.faults import KINDS, FaultSpec, Kind, Place, parse_fault, values_of
from shared.rpc.channel import DEFAULT_CONTROL
from shared.rpc.fault_codec import fault_from_message, message_from_fault

_EXAMPLES = {
    Kind.EVICT: "essa ctl inject evict --guest web-1 --states V,P --rate 500 --count 2000",
    Kind.MEMORY_PRESSURE: "essa ctl inject memory-pressure --percent 60 --for 10",
    Kind.REQUEST_LOST: "essa ctl inject request-lost --guest web-1 --vcpu 0 --nth 5",
    Kind.REPLY_LOST: "essa ctl inject reply-lost --orc 3,4 --odds 0.01 --count 0 --seed 7",
    Kind.DELAY: "essa ctl inject delay --pages 0x400-0x4ff --delay 0.2 --count 0 --for 30",
    Kind.FAULT_HOLD: "essa ctl inject fault-hold --guest web-1 --for 5",
    Kind.PAUSE: "essa ctl inject pause --container essa_guest_1 --for 5",
    Kind.RESTART: "essa ctl inject restart --pid-file host.pid --delay 2",
    Kind.DEVICE_FAILING: "essa ctl inject device-failing --operation write --odds 0.1 --count 0",
}


def register(ctl: typer.Typer) -> None:
    """Add this module's commands to `ctl`."""
    inject = ControlTyper(
        no_args_is_help=True,
        help="Make something go wrong; docs/FAULTS.md says what guests see and what recovers it.",
        epilog="Example: essa ctl inject evict --states V,P --rate 500 --count 2000",
    )
    for kind, known in KINDS.items():
        process = known.place is Place.PROCESS
        plainest = f"essa ctl inject {kind}{' --pid-file host.pid' if process else ''}"
        epilog = f"Example: {_EXAMPLES.get(kind, plainest)}"
        command = _of_process(kind) if process else _of(kind)
        inject.command(str(kind), help=known.help, epilog=epilog)(command)
    ctl.add_typer(inject, name="inject")
    epilog = "Example: essa ctl faults   or   essa ctl faults --stop 3   or   --stop-all"
    ctl.command("faults", epilog=epilog)(faults)


def _of(kind: Kind) -> Callable[..., None]:
    """The command of one kind, with its fields as options."""

    def run(control: str, as_json: bool, page: str | None = None, **texts: str | None) -> None:
        keys = {FIELDS[key].attribute: key for key in KINDS[kind].keys}
        values = {keys[name]: text for name, text in texts.items() if text is not None}
        if page is not None:
            values |= _one_page(page, values)
        inject(parse_fault(kind, values, "--"), control, as_json)

    return _with_options(run, kind, _parameter("control", DEFAULT_CONTROL, Control))


def _of_process(kind: Kind) -> Callable[..., None]:
    """The command of a kind that no host has a part in."""

    def run(as_json: bool, **texts: str | None) -> None:
        keys = {FIELDS[key].attribute: key for key in KINDS[kind].keys}
        values = {keys[name]: text for name, text in texts.items() if text is not None}
        done = strike(parse_fault(kind, values, "--"))
        if as_json:
            print_json({"kind": str(kind), **values, "done": done})
        else:
            print(done)

    return _with_options(run, kind)


def _with_options(run: Callable[..., None], kind: Kind, *others: Parameter) -> Callable[..., None]:
    parameters = [_option(kind, key) for key in KINDS[kind].keys]
    if kind is Kind.EVICT:
        option = typer.Option("--page", help="One page of one guest.", metavar="GUEST:PFN")
        parameters.append(_parameter("page", None, Annotated[str | None, option]))
    parameters += others
    parameters.append(_parameter("as_json", False, Json))
    # Typer reads a command's options off its signature.
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _parameter(name: str, default: object, annotation: object) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(kind: Kind, key: str) -> Parameter:
    field = FIELDS[key]
    default = KINDS[kind].defaults.get(key)
    text = field.help if default is None else f"{field.help} (default: {default})"
    option = typer.Option(f"--{key}", help=text, metavar=field.metavar, show_default=False)
    return _parameter(field.attribute, None, Annotated[str | None, option])


def _one_page(text: str, values: dict[str, str]) -> dict[str, str]:
    guest, colon, pfn = text.rpartition(":")
    if not colon or "-" in pfn or "," in pfn:
        raise CliError(f"--page is {text!r}; it must be GUEST:PFN such as web-1:0x400")
    for key in ("guest", "pages"):
        if key in values:
            raise CliError(f"--{key} and --page both say which pages; give one")
    return {"guest": guest, "pages": pfn} | ({} if "count" in values else {"count": "1"})


def inject(spec: FaultSpec, control: str, as_json: bool) -> None:
    """Inject a fault into the host and say its number."""

    async def work(method: Method) -> Any:
        return await method("InjectFault", pb.InjectFaultRequest(fault=message_from_fault(spec)))

    reply = ask(control, work)
    if as_json:
        print_json({"fault_id": reply.fault_id, "kind": str(spec.kind), **values_of(spec)})
    else:
        print(f"fault {reply.fault_id}: {described(spec)}")


def described(spec: FaultSpec) -> str:
    """A fault in one line, as it would be injected."""
    return " ".join([str(spec.kind), *(f"{key}={text}" for key, text in values_of(spec).items())])


def faults(
    stop: Annotated[
        int | None,
        typer.Option(help="Stop this fault.", metavar="ID", show_default=False, min=1),
    ] = None,
    stop_all: Annotated[bool, typer.Option("--stop-all", help="Stop all faults.")] = False,
    control: Control = DEFAULT_CONTROL,
    as_json: Json = False,
) -> None:
    """Show the faults injected so far and what each has done, or stop them."""
    if stop is not None and stop_all:
        raise CliError("--stop and --stop-all: give one of them")

    async def work(method: Method) -> list[pb.Fault]:
        if stop is not None or stop_all:
            reply = await method("StopFault", pb.StopFaultRequest(fault_id=stop))
        else:
            reply = await method("ListFaults", pb.ListFaultsRequest())
        return list(reply.faults)

    found = ask(control, work)
    if as_json:
        print_json([plain_fault(fault) for fault in found])
    else:
        Console().print(_table(found) if found else "No faults.")


def plain_fault(fault: pb.Fault) -> dict[str, Any]:
    """A fault for programs: its fields as they are injected, and what it has done."""
    spec = fault_from_message(fault.fault)
    return {
        "fault_id": fault.fault_id,
        "kind": str(spec.kind),
        "fields": values_of(spec),
        "matched": fault.matched_count,
        "struck": fault.struck_count,
        "active": fault.active,
        "age_seconds": fault.age_seconds,
    }


def _table(found: list[pb.Fault]) -> Table:
    table = Table("id", "fault", box=None, pad_edge=False, header_style="bold")
    for heading in ("matched", "struck", "since"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for fault in found:
        table.add_row(
            str(fault.fault_id),
            described(fault_from_message(fault.fault)),
            f"{fault.matched_count:,}",
            f"{fault.struck_count:,}",
            f"{fault.age_seconds:,.1f} s",
            "active" if fault.active else "over",
        )
    return table
