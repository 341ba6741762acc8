"""Fault plans: TOML files that say which faults come when, checked whole before one begins.

Rules:
- A fault's fields are those of `shared.faults`, with `at` (seconds from the start; two
  numbers: drawn between them) or `when` (a trigger), and `name` for other faults' triggers.
- Draws come from the plan's seed alone; a fault without a seed of its own gets one from it.
- Every fault comes to an end: by its kind, its `count`, or its `for`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any, Final

from essa_cli import plans
from essa_cli.errors import CliError
from shared.errors import InvalidRequestError
from shared.faults import KINDS, FaultSpec, Kind, Place, kind_named, parse_fault

TIME_MAX: Final = 86_400.0
FAULTS_MAX: Final = 256
TIMEOUT_SECONDS: Final = 300.0
COUNTERS: Final = {
    "discard-faults": ("discard_fault_count",),
    "evictions": (
        "page_out_count",
        "unused_discard_count",
        "volatile_discard_count",
        "potential_volatile_discard_count",
    ),
    "page-ins": ("page_in_count",),
    "essas": ("essa_counts",),
}
"""What a trigger can count, and the counters of the wire that it adds up."""
_PLAN_KEYS: Final = ("about", "seed", "timeout", "process", "fault")
_ENTRY_KEYS: Final = ("kind", "name", "at", "when", "process")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a fault waits for. Exactly one of fault, counter and guest alone.

    guest: of a counter; empty for the whole host. Alone: until that guest is open.
    """

    guest: str = ""
    counter: str = ""
    fault: str = ""
    number: int = 0

    def __str__(self) -> str:
        if self.fault:
            return f"{self.fault} has struck {self.number:,} times"
        if self.counter:
            return f"{self.guest or 'the host'} has {self.number:,} {self.counter}"
        return f"{self.guest} is open"


@dataclass(frozen=True, slots=True)
class Entry:
    """One fault of a plan. at: seconds from the start, or None for a trigger."""

    number: int
    name: str
    spec: FaultSpec
    at: float | None
    when: Trigger | None


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """A plan. timeout: seconds after which what has not begun does not any more."""

    name: str
    about: str
    seed: int
    timeout: float
    entries: tuple[Entry, ...] = field(default=())

    def stretched(self, factor: float) -> FaultPlan:
        """The same with all times multiplied, but for delays of single messages."""
        entries = tuple(
            replace(
                entry,
                at=None if entry.at is None else entry.at * factor,
                spec=replace(entry.spec, for_seconds=entry.spec.for_seconds * factor),
            )
            for entry in self.entries
        )
        return replace(self, entries=entries)


def shipped() -> list[str]:
    """The names of the plans that ship."""
    found = resources.files(plans).iterdir()
    return sorted(p.name.removesuffix(".toml") for p in found if p.name.endswith(".toml"))


def load_plan(name: str, processes: Mapping[str, str] | None = None) -> FaultPlan:
    """A plan from a file or, by name, from those that ship.

    processes: by their names in the plan, a pid file or container:NAME, instead of what the
    plan says. Raises CliError naming every entry and field that is wrong.
    """
    try:
        if "/" not in name and name in shipped():
            text = (resources.files(plans) / f"{name}.toml").read_text()
        else:
            text = Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        ships = ", ".join(shipped())
        reason = getattr(error, "strerror", None) or "is no text"
        raise CliError(f"plan {name}: {reason}; a file, or one of {ships}") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CliError(f"plan {name}: {error}") from None
    return _Reader(name, processes or {}).plan(data)


class _Reader:
    """Reads one plan; gathers all that is wrong with it."""

    def __init__(self, name: str, processes: Mapping[str, str]) -> None:
        self._name = name
        self._given = processes
        self._processes: dict[str, dict[str, str]] = {}
        self._wrong: list[str] = []

    def plan(self, data: dict[str, Any]) -> FaultPlan:
        """The plan. Raises CliError."""
        self._known("plan", data, _PLAN_KEYS)
        seed = self._number("plan: seed", data.get("seed", 0), 0, (1 << 32) - 1)
        timeout = self._number("plan: timeout", data.get("timeout", TIMEOUT_SECONDS), 0, TIME_MAX)
        about = data.get("about", "")
        if not isinstance(about, str):
            self._say("plan: about", about, "a text")
        self._read_processes(data.get("process", {}))
        items = data.get("fault", [])
        if not isinstance(items, list) or not 1 <= len(items) <= FAULTS_MAX:
            self._wrong.append(f"plan: it must hold 1 to {FAULTS_MAX} of [[fault]]")
            items = []
        random = Random(seed)
        entries = [self._entry(n, item, random) for n, item in enumerate(items, 1)]
        good = tuple(entry for entry in entries if entry is not None)
        self._check_names(good)
        if self._wrong:
            raise CliError(f"plan {self._name}: {'; '.join(self._wrong)}")
        return FaultPlan(Path(self._name).stem, str(about).strip(), int(seed), timeout, good)

    def _say(self, where: str, value: object, bound: str) -> None:
        self._wrong.append(f"{where} is {value!r}; it must be {bound}")

    def _known(self, where: str, data: Mapping[str, Any], keys: tuple[str, ...]) -> None:
        for key in data:
            if key not in keys:
                self._wrong.append(f"{where}: {key} is no field; it takes {', '.join(keys)}")

    def _number(self, where: str, value: Any, low: float, high: float) -> float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not low <= value <= high:
            self._say(where, value, f"{low:g} to {high:g}")
            return low
        return float(value)

    def _read_processes(self, table: Any) -> None:
        if not isinstance(table, dict):
            self._say("plan: process", table, "a table")
            return
        for name, how in table.items():
            if not isinstance(how, dict) or set(how) not in ({"pid-file"}, {"container"}):
                self._say(f"process {name}", how, "a pid-file or a container")
            else:
                self._processes[name] = {key: str(value) for key, value in how.items()}
        for name, text in self._given.items():
            if name not in self._processes:
                names = ", ".join(self._processes) or "none"
                self._say("--process", name, f"a process of the plan, of which it has {names}")
            container = text.removeprefix("container:")
            self._processes[name] = (
                {"pid-file": text} if container == text else {"container": container}
            )

    def _entry(self, number: int, item: Any, random: Random) -> Entry | None:
        where = f"fault {number}"
        at, seed = random.random(), random.randrange(1 << 32)  # whatever the entry is
        if not isinstance(item, dict):
            self._say(where, item, "a table")
            return None
        before = len(self._wrong)
        name = item.get("name", f"#{number}")
        if "name" in item and (not isinstance(name, str) or not _NAME.fullmatch(name)):
            self._say(f"{where}: name", name, "1 to 64 of A-Z a-z 0-9 . _ -")
        if ("at" in item) == ("when" in item):
            self._wrong.append(f"{where}: it must have at or when, and only one of them")
        due = self._time(where, item["at"], at) if "at" in item else None
        when = self._trigger(where, item["when"]) if "when" in item else None
        spec = self._spec(where, item, seed)
        if spec is None or len(self._wrong) > before:
            return None
        return Entry(number, str(name), spec, due, when)

    def _time(self, where: str, value: Any, drawn: float) -> float:
        if isinstance(value, list) and len(value) == 2:
            low = self._number(f"{where}: at", value[0], 0, TIME_MAX)
            high = self._number(f"{where}: at", value[1], low, TIME_MAX)
            return low + drawn * (high - low)
        return self._number(f"{where}: at", value, 0, TIME_MAX)

    def _trigger(self, where: str, value: Any) -> Trigger | None:
        if not isinstance(value, dict):
            self._say(f"{where}: when", value, "a table")
            return None
        self._known(f"{where}: when", value, ("guest", "fault", "struck", *COUNTERS))
        counters = [key for key in COUNTERS if key in value]
        guest, fault = value.get("guest", ""), value.get("fault", "")
        for key, text in (("guest", guest), ("fault", fault)):
            if key in value and (not isinstance(text, str) or not _NAME.fullmatch(text)):
                self._say(f"{where}: when.{key}", text, "a name")
                return None
        if fault:
            if guest or counters:
                self._wrong.append(f"{where}: when.fault goes with struck alone")
            number = self._number(f"{where}: when.struck", value.get("struck", 1), 1, 1e9)
            return Trigger(fault=fault, number=int(number))
        if len(counters) > 1 or not (guest or counters) or "struck" in value:
            which = ", ".join(COUNTERS)
            self._wrong.append(f"{where}: when must name a guest, a fault, or one of {which}")
            return None
        if not counters:
            return Trigger(guest=guest)
        number = self._number(f"{where}: when.{counters[0]}", value[counters[0]], 1, 1e12)
        return Trigger(guest=guest, counter=counters[0], number=int(number))

    def _spec(self, where: str, item: Mapping[str, Any], seed: int) -> FaultSpec | None:
        try:
            kind = kind_named(item.get("kind", ""), f"{where}: kind")
            values = {
                key.replace("_", "-"): value
                for key, value in item.items()
                if key not in _ENTRY_KEYS
            }
            if "process" in item:
                values |= self._process(where, kind, item["process"])
            if "seed" in KINDS[kind].keys:
                values.setdefault("seed", seed)
            spec = parse_fault(kind, values, f"{where}: ")
        except InvalidRequestError as error:
            self._wrong.append(str(error))
            return None
        lasting = KINDS[kind].place is not Place.PROCESS and not spec.count
        if lasting and not spec.for_seconds:
            count = ", or count" if "count" in KINDS[kind].keys else ""
            self._wrong.append(f"{where}: {kind} would never end; give it for{count}")
        return spec

    def _process(self, where: str, kind: Kind, name: Any) -> dict[str, str]:
        if KINDS[kind].place is not Place.PROCESS:
            raise InvalidRequestError(f"{where}: process is no field of {kind}", field="process")
        found = self._processes.get(name) if isinstance(name, str) else None
        if found is None:
            names = ", ".join(self._processes) or "none"
            raise InvalidRequestError(
                f"{where}: process is {name!r}; the plan has {names}", field="process"
            )
        return found

    def _check_names(self, entries: tuple[Entry, ...]) -> None:
        names = [entry.name for entry in entries]
        for entry in entries:
            if names.count(entry.name) > 1:
                self._wrong.append(f"fault {entry.number}: name {entry.name} is there twice")
            if entry.when is not None and entry.when.fault:
                self._check_reference(entry, entry.when.fault, entries)

    def _check_reference(self, entry: Entry, name: str, entries: tuple[Entry, ...]) -> None:
        if name == entry.name or all(other.name != name for other in entries):
            self._wrong.append(
                f"fault {entry.number}: when.fault is {name!r}; no other fault has that name"
            )
