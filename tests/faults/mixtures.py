"""Seeded mixtures of faults over a mixed workload: all at once, and nobody loses a byte.

Faults that are real losses (a damaged or unreadable slot) have tests of their own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from host_daemon.faults.rule import Rule
from shared.faults import FaultSpec, Kind, parse_fault
from tests.faults.cluster import Cluster, cluster, verdict

FAULTS_MIN, FAULTS_MAX = 3, 7
AT_DOORS = 0.3
"""The share of mixtures with a fault of OpenGuest or CloseGuest, whose loss takes seconds."""
EVICTIONS_A_SECOND, IN_TRACES = 2000, 200
"""There in every mixture: without evictions nothing is at stake. A request of a trace is many
pages long and done only when all of them were there, so more than this is no fault but the end."""


def _strikes(random: Random, odds: float) -> dict[str, object]:
    return {
        "odds": round(random.uniform(odds / 4, odds), 6),
        "count": random.choice([0, 0, 3, 20]),
        "nth": random.randint(1, 30),
        "seed": random.randrange(1 << 16),
    }


def _matches(random: Random) -> dict[str, object]:
    """Sometimes narrower than everything."""
    values: dict[str, object] = {}
    if random.random() < 0.3:
        values["guest"] = random.choice(["one", "two"])
    if random.random() < 0.2:
        values["vcpu"] = str(random.randrange(3))
    if random.random() < 0.2:
        values["pages"] = f"{random.randrange(64)}-{random.randrange(64, 192)}"
    return values


def _fields(random: Random, kind: Kind) -> dict[str, object]:
    late = round(random.uniform(0.001, 0.03), 4)
    match kind:
        case Kind.REQUEST_LOST | Kind.REPLY_LOST:
            return _strikes(random, 0.02) | _matches(random)
        case Kind.DELAY:
            side = random.choice(["request", "reply"])
            return _strikes(random, 0.05) | _matches(random) | {"delay": late, "side": side}
        case Kind.DUPLICATE:
            return _strikes(random, 0.2) | _matches(random)
        case Kind.RESET:
            method = random.choice(["Execute", "SubscribeFaults"])
            return _strikes(random, 0.01) | {"method": method, "count": random.randint(1, 5)}
        case Kind.SLOW_CONSUMER:
            method = random.choice(["Execute", "SubscribeFaults"])
            return {"method": method, "rate": random.randint(300, 1000)}
        case Kind.FAULT_DELAY | Kind.FAULT_DUPLICATE:
            delay: dict[str, object] = {"delay": late} if kind is Kind.FAULT_DELAY else {}
            return {"count": 0, "odds": round(random.uniform(0.2, 1), 3)} | delay
        case Kind.FAULT_HOLD:
            return {"for": round(random.uniform(0.05, 0.4), 3)}
        case Kind.DEVICE_SLOW:
            return {"delay": late, "odds": round(random.uniform(0.1, 1), 3)}
        case Kind.DEVICE_FAILING:
            return {"operation": "write", "count": random.randint(1, 20), "odds": 0.2}
        case Kind.DEVICE_FULL:
            return {"for": round(random.uniform(0.1, 0.6), 3)}
        case Kind.MEMORY_PRESSURE:
            return {"percent": random.randint(5, 40), "for": round(random.uniform(0.2, 2), 3)}
        case _:
            raise AssertionError(kind)


KINDS = (
    Kind.REQUEST_LOST,
    Kind.REPLY_LOST,
    Kind.DELAY,
    Kind.DUPLICATE,
    Kind.RESET,
    Kind.SLOW_CONSUMER,
    Kind.FAULT_DELAY,
    Kind.FAULT_DUPLICATE,
    Kind.FAULT_HOLD,
    Kind.DEVICE_SLOW,
    Kind.DEVICE_FAILING,
    Kind.DEVICE_FULL,
    Kind.MEMORY_PRESSURE,
)


def draw(seed: int, evictions: int = EVICTIONS_A_SECOND) -> list[FaultSpec]:
    """The faults of one mixture, of different kinds: the same for the same seed."""
    random = Random(seed)
    kinds = random.sample(KINDS, random.randint(FAULTS_MIN, FAULTS_MAX))
    return [
        parse_fault(Kind.EVICT, {"rate": evictions, "count": 0, "seed": seed % (1 << 32)}),
        *(parse_fault(kind, _fields(random, kind)) for kind in kinds),
        *_at_the_doors(Random(f"at the doors {seed}")),
    ]


def _at_the_doors(random: Random) -> list[FaultSpec]:
    """In some mixtures, what happens to guests when they are opened or closed."""
    if random.random() >= AT_DOORS:
        return []
    kind = random.choice([Kind.REQUEST_LOST, Kind.REPLY_LOST, Kind.DELAY, Kind.RESET])
    values: dict[str, object] = {
        "method": random.choice(["OpenGuest", "CloseGuest", "OpenGuest,CloseGuest"]),
        "count": random.randint(1, 2),
        "nth": random.randint(1, 2),
    }
    if kind is Kind.DELAY:
        values |= {"delay": 0.3, "side": random.choice(["request", "reply"])}
    return [parse_fault(kind, values)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One mixture: what guests found, how often each fault struck, what happened to the host."""

    integrity_errors: int
    violations: int
    struck: dict[str, int]
    reboots: int
    told: str

    @property
    def is_clean(self) -> bool:
        """Whether nobody found anything."""
        return not (self.integrity_errors or self.violations)


def _struck(rules: Sequence[Rule]) -> Counter[str]:
    """By kind."""
    struck: Counter[str] = Counter()
    for rule in rules:
        struck[str(rule.spec.kind)] += rule.struck
    return struck


TRACES = (None, None, "sqlite", "search")
"""What guests do: twice as often the mixed workload as a trace."""
ENDS = ((), (), (False,), (True,), (False, True))
"""How often the host is restarted in the middle of it; True: its power fails."""
BEFORE_AN_END_SECONDS = 0.8


async def run_mixture(world: Cluster, seed: int, operations: int) -> Outcome:
    """One mixture over the workload, and with the ends of the host, that its seed draws."""
    random = Random(f"ends {seed}")
    trace, ends = random.choice(TRACES), random.choice(ENDS)
    evictions = IN_TRACES if trace else EVICTIONS_A_SECOND
    rules = [world.add(spec) for spec in draw(seed, evictions)]
    running = asyncio.ensure_future(world.run(seed, operations, trace))
    struck: Counter[str] = Counter()
    for power_fails in ends:
        await asyncio.wait([running], timeout=BEFORE_AN_END_SECONDS)
        if not running.done():
            struck.update(_struck(rules))
            await world.restart(power_fails=power_fails)
            rules = world.shell.book.active()
    reports = await running
    struck.update(_struck(rules))
    world.injector.stop(None)
    integrity_errors, violations = verdict(reports)
    how = {False: "restart", True: "power failure"}
    told = ", ".join([trace or "mixed", *(how[power_fails] for power_fails in ends)])
    reboots = sum(report.reboots for report in reports)
    return Outcome(integrity_errors, violations, dict(struck), reboots, told)


async def run_alone(directory: Path, seed: int, operations: int, seconds: float) -> Outcome:
    """One mixture on a host of its own. Raises TimeoutError that says where it stood."""
    async with cluster(directory, seed) as world:
        running = asyncio.ensure_future(run_mixture(world, seed, operations))
        await asyncio.wait([running], timeout=seconds)
        if not running.done():
            where = world.standing()
            running.cancel()
            await asyncio.wait([running])
            raise TimeoutError(f"after {seconds:g} seconds: {where}")
        return running.result()
