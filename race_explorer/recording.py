"""A run in full: each step with what it touched, what it was told, and what became of the pages.

Rules:
- Searches do not record: a run is its choices, and is recorded by running it again.
- A step is named by meaning: its actor, its label, and which of that actor's steps with that
  label it is, from 1. Numbers of steps and of choices are only hints.
- Digests depend on what happened and on nothing else: not on hashes of Python's, not on its
  version.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from guest_agent.kernel.page import Page
from race_explorer.engine import ANY, Chooser, DivergedError, Option, Path, Touch
from race_explorer.naming import describe
from race_explorer.world import GUEST, SimWorld
from shared.arch import KEY_CHANGED, KEY_REFERENCED, STATE_MASK, STATE_NAMES

PAGE_KINDS: Final = frozenset({"flags", "count", "mapcount", "mapping", "host"})
"""Resources whose number is a pfn."""
DIGEST_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class PageSeen:
    """One page between two steps, as host and guest have it.

    state: such as "Vr". changed, referenced: C and R of its storage key. flags: names without
    PG_. owner: whose content it holds, for people. incarnation: how often it was allocated.
    """

    pfn: int
    state: str
    changed: bool
    referenced: bool
    flags: tuple[str, ...]
    count: int
    mapcount: int
    owner: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One step. index: from 1. nth: of this actor with this label, from 1.

    enabled: every (actor, label) that could have run, `choice` being the one that did. said: what
    the step was told, for people. pages: the watched pages after it, in the order of
    `Recording.pfns`. digest: of everything up to and including this step.
    """

    index: int
    actor: str
    label: str
    nth: int
    choice: int
    enabled: tuple[tuple[str, str], ...]
    accesses: tuple[Touch, ...]
    said: str
    pages: tuple[PageSeen, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole run. pfns: the pages that a step names. before: those pages before step 1."""

    pfns: tuple[int, ...]
    before: tuple[PageSeen, ...]
    steps: tuple[RecordedStep, ...]
    violations: tuple[str, ...]
    reached: frozenset[str]

    @property
    def choices(self) -> tuple[int, ...]:
        """What replays it."""
        return tuple(step.choice for step in self.steps)

    @property
    def digest(self) -> str:
        """Of the whole run, its end included; of violations their first lines."""
        last = self.steps[-1].digest if self.steps else ""
        return _digest(last, *(violation.partition("\n")[0] for violation in self.violations))


def record(build: Callable[[], SimWorld], choices: Sequence[int]) -> Recording:
    """Run a schedule again and write down everything; past its end the first option.

    Raises DivergedError if a choice is not offered.
    """
    rest = iter(choices)
    taken = 0

    def choose(options: Sequence[Option]) -> int:
        nonlocal taken
        choice = next(rest, 0)
        if choice >= len(options):
            raise DivergedError(f"step {taken}: choice {choice} of {len(options)}")
        taken += 1
        return choice

    return record_with(build, choose)


def record_with(build: Callable[[], SimWorld], choose: Chooser) -> Recording:
    """Run one schedule, by whatever makes the choices, and write down everything."""
    world = build()
    path, watch = Path(world), _Watch(world)
    looks, taken = [watch.look()], list[_Taken]()
    while not path.violations and (options := world.options()):
        choice = choose(options)
        world.answered = None
        path.step(options, choice)
        enabled = tuple((o.name, o.label) for o in options)
        said = "" if world.answered is None else describe(world.answered)
        taken.append(_Taken(options[choice], choice, enabled, said))
        looks.append(watch.look())
    run = path.record()
    pfns = tuple(sorted({pfn for step in taken for pfn in touched_pfns(step.option.accesses)}))
    seen = [tuple(pages[pfn] for pfn in pfns) for pages in looks]
    steps = tuple(_steps(taken, looks, seen[1:]))
    return Recording(pfns, seen[0], steps, run.violations, run.reached)


@dataclass(frozen=True, slots=True)
class _Taken:
    option: Option
    choice: int
    enabled: tuple[tuple[str, str], ...]
    said: str


def _steps(
    taken: Sequence[_Taken],
    looks: Sequence[dict[int, PageSeen]],
    seen: Sequence[tuple[PageSeen, ...]],
) -> Iterator[RecordedStep]:
    """Number and digest the steps. looks: all pages before step 1, and after every step.

    A digest takes in the pages that the step has changed, watched or not: what a later step
    names must have no say in it.
    """
    counts: Counter[tuple[str, str]] = Counter()
    digest = _digest(*map(repr, looks[0].values()))
    for i, step in enumerate(taken):
        actor, label = step.option.name, step.option.label
        counts[actor, label] += 1
        changed = [page for pfn, page in looks[i + 1].items() if page != looks[i][pfn]]
        digest = _digest(digest, actor, label, step.said, *map(repr, (step.enabled, changed)))
        yield RecordedStep(
            index=i + 1,
            actor=actor,
            label=label,
            nth=counts[actor, label],
            choice=step.choice,
            enabled=step.enabled,
            accesses=step.option.accesses,
            said=step.said,
            pages=seen[i],
            digest=digest,
        )


def touched_pfns(accesses: Iterable[Touch]) -> list[int]:
    """The pages that a step names, in its order."""
    found = (access.resource for access in accesses)
    return [number for kind, number in found if kind in PAGE_KINDS and number != ANY]


def _digest(*parts: str) -> str:
    whole = "\x00".join(parts).encode()
    return hashlib.sha256(whole).hexdigest()[:DIGEST_LENGTH]


class _Watch:
    """Looks at all pages of a small world between steps, and counts their incarnations."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._used = [page.count > 0 for page in world.kernel.mem_map]
        self._incarnations = [int(used) for used in self._used]

    def look(self) -> dict[int, PageSeen]:
        """All pages now."""
        for page in self._world.kernel.mem_map:
            used = page.count > 0
            if used and not self._used[page.pfn]:
                self._incarnations[page.pfn] += 1
            self._used[page.pfn] = used
        return {page.pfn: self._page(page) for page in self._world.kernel.mem_map}

    def _page(self, page: Page) -> PageSeen:
        host = self._world.host
        key = host.page_details(GUEST, page.pfn).key
        return PageSeen(
            pfn=page.pfn,
            state=STATE_NAMES[host.state_byte(GUEST, page.pfn) & STATE_MASK],
            changed=bool(key & KEY_CHANGED),
            referenced=bool(key & KEY_REFERENCED),
            flags=tuple(page.flag_names().replace("PG_", "").split("|")) if page.flags else (),
            count=page.count,
            mapcount=page.mapcount,
            owner=_owner(page),
            incarnation=self._incarnations[page.pfn],
        )


def _owner(page: Page) -> str:
    if page.count <= 0:
        return "free"
    if page.anonymous is not None:
        return f"anon {page.anonymous.number}"
    return "-" if page.mapping is None else f"file {page.mapping.number}[{page.index}]"
