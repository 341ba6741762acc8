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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from guest_agent.kernel.page import Page
from race_explorer.engine import ANY, DivergedError, Option, Path, Touch
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
        """Of the whole run, its end included."""
        last = self.steps[-1].digest if self.steps else ""
        return _digest(last, *self.violations)


def record(build: Callable[[], SimWorld], choices: Sequence[int]) -> Recording:
    """Run a schedule again and write down everything; past its end the first option.

    Raises DivergedError if a choice is not offered.
    """
    path = Path(build())
    world: SimWorld = path.world  # type: ignore[assignment]
    watch = _Watch(world)
    before = watch.look()
    taken: list[tuple[Option, int, tuple[tuple[str, str], ...], str, dict[int, PageSeen]]] = []
    rest = iter(choices)
    while not path.violations and (options := world.options()):
        choice = next(rest, 0)
        if choice >= len(options):
            raise DivergedError(f"step {len(taken)}: choice {choice} of {len(options)}")
        world.answered = None
        path.step(options, choice)
        enabled = tuple((o.name, o.label) for o in options)
        said = "" if world.answered is None else describe(world.answered)
        taken.append((options[choice], choice, enabled, said, watch.look()))
    run = path.record()
    pfns = tuple(sorted({pfn for option, *_ in taken for pfn in touched_pfns(option.accesses)}))
    steps: list[RecordedStep] = []
    counts: Counter[tuple[str, str]] = Counter()
    digest = ""
    for option, choice, enabled, said, pages in taken:
        counts[option.name, option.label] += 1
        seen = tuple(pages[pfn] for pfn in pfns)
        nth = counts[option.name, option.label]
        digest = _digest(digest, option.name, option.label, said, *map(repr, (enabled, seen)))
        steps.append(
            RecordedStep(
                index=len(steps) + 1,
                actor=option.name,
                label=option.label,
                nth=nth,
                choice=choice,
                enabled=enabled,
                accesses=option.accesses,
                said=said,
                pages=seen,
                digest=digest,
            )
        )
    first = tuple(before[pfn] for pfn in pfns)
    return Recording(pfns, first, tuple(steps), run.violations, run.reached)


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
