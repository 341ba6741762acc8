"""What runs of a world are like: how long, how many take part, which steps depend on others.

Rules:
- It is measured from the first PROBE_RUNS runs of a campaign and never again, so that every
  run behind them is a function of the seed and its number, whoever makes it.
- Whose steps they are is said by activity: all that the host does with one page is one.
- A step is shared if it depends on a step of another activity that was seen in some run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from race_explorer.engine import ANY, Option, Touch
from race_explorer.replays.anchors import activity

PROBE_RUNS: Final = 12

Resource = tuple[str, int]

_EVERY: Final = ANY - 1
"""As a number: all numbers of a kind together. No resource has it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """activities, steps, shared: the most that one run had of each.

    counts: the most steps that an activity had in one run, those of activities that came of it
    included. parents: who had run last when an activity appeared, where it was not there from
    the beginning. contended: resources that one activity may change and another one touches.
    """

    activities: int
    steps: int
    shared: int
    counts: dict[str, int]
    parents: dict[str, str]
    contended: frozenset[Resource]

    def is_shared(self, accesses: Sequence[Touch]) -> bool:
        """Whether a step with these accesses is shared."""
        contended = self.contended
        return any(access.resource in contended for access in accesses)


@dataclass(slots=True)
class _Seen:
    """One run: whose its steps were, what they touched, and who appeared after whom."""

    names: list[str] = field(default_factory=list)
    taken: Sequence[tuple[Touch, ...]] = ()
    parents: dict[str, str] = field(default_factory=dict)


class Survey:
    """Measures runs. Call `look` before every step, and `close` when a run is over."""

    def __init__(self) -> None:
        self._runs: list[_Seen] = []
        self._now = _Seen()

    @property
    def runs(self) -> int:
        """How many runs are over."""
        return len(self._runs)

    def look(self, options: Sequence[Option], choice: int) -> None:
        """A step is about to be taken."""
        names, parents = self._now.names, self._now.parents
        last = names[-1] if names else ""
        for option in options:
            parents.setdefault(activity(option.name), last)
        names.append(activity(options[choice].name))

    def close(self, taken: Sequence[tuple[Touch, ...]]) -> None:
        """A run is over. taken: what its steps touched."""
        self._now.taken = taken
        self._runs.append(self._now)
        self._now = _Seen()

    def profile(self) -> Profile:
        """What the runs so far have shown."""
        found = Profile(
            activities=max((len(run.parents) for run in self._runs), default=0),
            steps=max((len(run.names) for run in self._runs), default=0),
            shared=0,
            counts=_counts(self._runs),
            parents=_parents(self._runs),
            contended=_contended(self._runs),
        )
        shared = [sum(map(found.is_shared, run.taken)) for run in self._runs]
        return replace(found, shared=max(shared, default=0))


def _parents(runs: Sequence[_Seen]) -> dict[str, str]:
    """As the first run has it in which the activity appeared."""
    found: dict[str, str] = {}
    for run in runs:
        for name, parent in run.parents.items():
            found.setdefault(name, parent)
    return {name: parent for name, parent in found.items() if parent not in ("", name)}


def _counts(runs: Sequence[_Seen]) -> dict[str, int]:
    most: dict[str, int] = {}
    for run in runs:
        for name, count in _with_descendants(run).items():
            most[name] = max(most.get(name, 0), count)
    return most


def _with_descendants(run: _Seen) -> Counter[str]:
    """Steps by activity, those of whoever came of it included."""
    counts = Counter(run.names)
    # Who came of it appeared later, so the last to appear is complete first.
    for name in reversed(run.parents):
        parent = run.parents[name]
        if parent:
            counts[parent] += counts[name]
    return counts


def _contended(runs: Sequence[_Seen]) -> frozenset[Resource]:
    users: dict[Resource, _Users] = {}
    for run in runs:
        for name, accesses in zip(run.names, run.taken, strict=True):
            for access in accesses:
                kind, _ = access.resource
                for resource in (access.resource, (kind, _EVERY)):
                    users.setdefault(resource, _Users()).add(name, write=access.write)
    found = set()
    for kind, number in users:
        if number == _EVERY:
            continue
        # Who touches any of a kind meets everybody who touches one of them.
        other = users.get((kind, _EVERY if number == ANY else ANY), _Users())
        if users[kind, number].contend_with(other):
            found.add((kind, number))
    return frozenset(found)


@dataclass(slots=True)
class _Users:
    """Activities that touch a resource, and those of them that may change it."""

    all: set[str] = field(default_factory=set)
    writers: set[str] = field(default_factory=set)

    def add(self, name: str, *, write: bool) -> None:
        self.all.add(name)
        if write:
            self.writers.add(name)

    def contend_with(self, other: _Users) -> bool:
        """Whether there are two activities among all of these, and one that writes."""
        return bool(self.writers or other.writers) and len(self.all | other.all) > 1
