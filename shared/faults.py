"""The faults that can be injected: one table of kinds, their fields, bounds and defaults.

Rules:
- Every front end (command line, plan files, the wire) parses with `parse_fault`, so that a
  fault means the same wherever it is written, and is wrong with the same words.
- A fault strikes at its `nth` match and, with `odds`, at a share of those after it, drawn from
  `seed`; after `count` strikes it is done (0: when it is stopped).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum, StrEnum
from typing import Any, Final

from shared.errors import InvalidRequestError
from shared.fault_fields import CALLS, FIELDS, METHODS, WITHOUT_COMMAND, Field


class Place(Enum):
    """Where a fault acts."""

    EVICTION = "eviction"
    MEMORY = "memory"
    RPC = "rpc"
    DELIVERY = "delivery"
    DEVICE = "device"
    PROCESS = "process"


class Kind(StrEnum):
    """What goes wrong."""

    EVICT = "evict"
    MEMORY_PRESSURE = "memory-pressure"
    REQUEST_LOST = "request-lost"
    REPLY_LOST = "reply-lost"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    RESET = "reset"
    SLOW_CONSUMER = "slow-consumer"
    FAULT_DELAY = "fault-delay"
    FAULT_DUPLICATE = "fault-duplicate"
    FAULT_HOLD = "fault-hold"
    DEVICE_SLOW = "device-slow"
    DEVICE_FAILING = "device-failing"
    DEVICE_FULL = "device-full"
    DEVICE_CORRUPT = "device-corrupt"
    PAUSE = "pause"
    RESUME = "resume"
    TERMINATE = "terminate"
    KILL = "kill"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One fault as somebody wants it. Empty tuples match everything.

    methods: of EssaService. vcpus: issuers. side: "request" or "reply", of a delay.
    operations: "read", "write". states: letters of usage states. count: 0 for no bound.
    for_seconds: 0 until it is stopped or has struck `count` times. frames or percent: of
    the host's memory. pid_file or container: a process.
    """

    kind: Kind
    guests: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    vcpus: tuple[int, ...] = ()
    orcs: tuple[int, ...] = ()
    pages: tuple[range, ...] = ()
    states: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    side: str = "request"
    nth: int = 1
    count: int = 0
    odds: float = 1.0
    seed: int = 0
    for_seconds: float = 0.0
    delay_seconds: float = 0.0
    rate: float = 0.0
    frames: int = 0
    percent: int = 0
    pid_file: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class KindOf:
    """What a kind takes. defaults: by key, as text. methods: those that it can act on."""

    place: Place
    keys: tuple[str, ...]
    defaults: Mapping[str, str]
    help: str
    methods: tuple[str, ...] = ()


_STRIKES: Final = ("nth", "count", "odds", "seed", "for")
_MATCH: Final = ("method", "guest", "vcpu", "orc", "pages", *_STRIKES)
_FAULT_MATCH: Final = ("guest", "vcpu", "pages", *_STRIKES)
_PROCESS: Final = ("pid-file", "container")
_ONCE: Final = {"count": "1"}
_RPC_ONCE: Final = {"method": "Execute", "count": "1"}
_DEVICE_MATCH: Final = ("guest", "pages", *_STRIKES)
_ANSWERED: Final = ("Execute", *CALLS)

KINDS: Final[dict[Kind, KindOf]] = {
    Kind.EVICT: KindOf(
        Place.EVICTION,
        ("guest", "pages", "states", "count", "rate", "seed", "for"),
        {"count": "100", "rate": "100"},
        "Take resident pages away, seeded, at a rate.",
    ),
    Kind.MEMORY_PRESSURE: KindOf(
        Place.MEMORY,
        ("frames", "percent", "for"),
        {},
        "Take frames away from the host, and give them back when it is stopped.",
    ),
    Kind.REQUEST_LOST: KindOf(
        Place.RPC, _MATCH, _RPC_ONCE, "The command never comes to the host.", _ANSWERED
    ),
    Kind.REPLY_LOST: KindOf(
        Place.RPC, _MATCH, _RPC_ONCE, "The command is executed and never answered.", _ANSWERED
    ),
    Kind.DELAY: KindOf(
        Place.RPC,
        (*_MATCH, "delay", "side"),
        _RPC_ONCE | {"delay": "0.1", "side": "request"},
        "The command is taken in later, or answered later.",
        _ANSWERED,
    ),
    Kind.DUPLICATE: KindOf(
        Place.RPC,
        _MATCH,
        _RPC_ONCE,
        "The command comes twice.",
        ("Execute", "AcknowledgeFaults"),
    ),
    Kind.RESET: KindOf(Place.RPC, _MATCH, _RPC_ONCE, "The stream or call breaks.", METHODS),
    Kind.SLOW_CONSUMER: KindOf(
        Place.RPC,
        ("method", "guest", "rate", *_STRIKES),
        {"method": "Execute", "rate": "20", "count": "0"},
        "The host reads a guest's commands, or sends its faults, at a given pace.",
        ("Execute", "SubscribeFaults"),
    ),
    Kind.FAULT_DELAY: KindOf(
        Place.DELIVERY,
        (*_FAULT_MATCH, "delay"),
        _ONCE | {"delay": "0.1"},
        "A discard fault, and those behind it, is delivered later.",
    ),
    Kind.FAULT_DUPLICATE: KindOf(
        Place.DELIVERY, _FAULT_MATCH, _ONCE, "A discard fault is delivered twice."
    ),
    Kind.FAULT_HOLD: KindOf(
        Place.DELIVERY,
        _FAULT_MATCH,
        {"count": "0"},
        "Discard faults are held until it is stopped.",
    ),
    Kind.DEVICE_SLOW: KindOf(
        Place.DEVICE,
        ("operation", "delay", *_DEVICE_MATCH),
        {"operation": "read,write", "delay": "0.05", "count": "0"},
        "Transfers of the paging device take longer.",
    ),
    Kind.DEVICE_FAILING: KindOf(
        Place.DEVICE,
        ("operation", *_DEVICE_MATCH),
        {"operation": "write", "count": "1"},
        "Transfers of the paging device fail.",
    ),
    Kind.DEVICE_FULL: KindOf(Place.MEMORY, ("for",), {}, "No slot can be written."),
    Kind.DEVICE_CORRUPT: KindOf(
        Place.DEVICE, _DEVICE_MATCH, _ONCE, "A slot's bytes are damaged once they are written."
    ),
    Kind.PAUSE: KindOf(
        Place.PROCESS, (*_PROCESS, "for"), {}, "Stop a process where it is (SIGSTOP)."
    ),
    Kind.RESUME: KindOf(Place.PROCESS, _PROCESS, {}, "Let it go on (SIGCONT)."),
    Kind.TERMINATE: KindOf(Place.PROCESS, _PROCESS, {}, "End it in good order (SIGTERM)."),
    Kind.KILL: KindOf(Place.PROCESS, _PROCESS, {}, "Kill it (SIGKILL): a power failure."),
    Kind.RESTART: KindOf(
        Place.PROCESS,
        (*_PROCESS, "delay"),
        {},
        "End it in good order if it runs, and start it again as it was started.",
    ),
}

_REQUIRED_MESSAGE: Final = "pid-file is missing; name a pid-file or a container, and only one"


def kind_named(text: object, name: str = "kind") -> Kind:
    """The kind of that name. Raises InvalidRequestError naming `name`."""
    try:
        return Kind(str(text))
    except ValueError:
        raise wrong(name, text, f"one of {', '.join(Kind)}") from None


def wrong(name: str, value: object, bound: str) -> InvalidRequestError:
    """The error for a field's value."""
    return InvalidRequestError(
        f"{name} is {value!r}; it must be {bound}", field=name, value=str(value), bound=bound
    )


def parse_fault(kind: Kind, values: Mapping[str, object], prefix: str = "") -> FaultSpec:
    """A fault from its fields as text, numbers or lists; `prefix` stands before names in errors.

    Raises InvalidRequestError for a field that the kind does not take, a value out of its
    bound, or fields that exclude each other.
    """
    known = KINDS[kind]
    found: dict[str, Any] = {}
    for key, value in (*known.defaults.items(), *values.items()):
        field = FIELDS.get(key)
        if field is None or key not in known.keys:
            raise InvalidRequestError(
                f"{prefix}{key} is no field of {kind}; it takes {', '.join(known.keys)}",
                field=f"{prefix}{key}",
                kind=str(kind),
            )
        found[field.attribute] = _parsed(field, value, prefix)
    spec = FaultSpec(kind, **found)
    _check_together(spec, known, prefix)
    return spec


def _parsed(field: Field, value: object, prefix: str) -> Any:
    if isinstance(value, str):
        texts = [text.strip() for text in value.split(",")]
        if field.key == "pid-file":
            texts = [value]
    elif isinstance(value, list | tuple):
        texts = [str(text) for text in value]
    else:
        texts = [str(value)]
    try:
        return field.parse(texts)
    except ValueError:
        raise wrong(f"{prefix}{field.key}", value, field.bound) from None


def _check_together(spec: FaultSpec, known: KindOf, prefix: str) -> None:
    for method in spec.methods:
        if method not in known.methods:
            bound = f"for {spec.kind} some of {', '.join(known.methods)}"
            raise wrong(f"{prefix}method", method, bound)
    if spec.orcs and "SubscribeFaults" in spec.methods:
        raise wrong(f"{prefix}orc", spec.orcs[0], "left out: discard faults have none")
    for method in WITHOUT_COMMAND:
        for key in ("vcpu", "orc", "pages"):
            if method in spec.methods and getattr(spec, FIELDS[key].attribute):
                raise wrong(f"{prefix}method", method, f"one with a command, as {key} is given")
    if spec.frames and spec.percent:
        raise wrong(f"{prefix}percent", spec.percent, "left out where frames is given")
    if known.place is Place.PROCESS and bool(spec.pid_file) == bool(spec.container):
        raise InvalidRequestError(prefix + _REQUIRED_MESSAGE, field=f"{prefix}pid-file")


def values_of(spec: FaultSpec) -> dict[str, str]:
    """The fault's fields as text, those left out that are empty: what `parse_fault` takes."""
    known = KINDS[spec.kind]
    neutral = {f.name: f.default for f in fields(FaultSpec)}
    found = {}
    for key in known.keys:
        value = getattr(spec, FIELDS[key].attribute)
        default = known.defaults.get(key)
        if value != neutral[FIELDS[key].attribute] or default is not None:
            found[key] = _as_text(value)
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_as_text, value))
    if isinstance(value, range):
        return f"{value.start}-{value[-1]}" if len(value) > 1 else str(value.start)
    return repr(value) if isinstance(value, float) else str(value)
