"""A step in words: what it is called, and what it was seen to read or to change.

Rules:
- The words come from the label, from what the step was told, and from the pages before and after
  it. Nothing is guessed from the code that took the step.
- A label stands in the text as replay files have it, but for ESSA, keys and the host's stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from race_explorer.engine import ANY
from race_explorer.pictures.resources import Resource
from race_explorer.pictures.story import Moment
from race_explorer.recording import PAGE_KINDS, PageSeen, RecordedStep
from shared.arch import Orc

QUIET_FLAGS: Final = frozenset({"lru", "referenced", "active", "uptodate"})
"""Flags that no race here turns on; they are left out where space is short."""


class Look(StrEnum):
    """What kind of step it is, for the eye."""

    ESSA = "essa"
    KEY = "key"
    ACCESS = "access"
    HOST = "host"
    FAULT = "fault"
    LOCK = "lock"
    CHANGE = "change"
    READ = "read"
    INTERRUPT = "interrupt"


@dataclass(frozen=True, slots=True)
class Telling:
    """One step for people. changed: pfns of the pages that look different after it."""

    text: str
    look: Look
    changed: tuple[int, ...]


def telling(
    step: RecordedStep,
    before: Sequence[PageSeen],
    moment: Moment,
    names: Mapping[Resource, str],
    *,
    name_pages: bool,
) -> Telling:
    """Tell a step. before: the watched pages. name_pages: there is more than one of them."""
    pairs = [(old, new) for old, new in zip(before, step.pages, strict=True) if old != new]
    changed = tuple(new.pfn for _, new in pairs)
    if moment.taken:
        return Telling(f"interrupt, at {step.label}", Look.INTERRUPT, changed)
    effects = [text for old, new in pairs for text in changes(old, new)]
    seen = list(_seen(step, before))
    kind, _, operation = step.label.partition(".")
    if kind == "essa":
        text, look = _essa(operation, step), Look.ESSA
    elif special := _WORDS.get(step.label):
        text, look = special[0](step, effects), special[1]
    elif step.label.startswith("second "):
        text, look = (
            _joined(f"second copy of {step.label[7:]}", [*_told(step), *effects]),
            Look.FAULT,
        )
    elif _is_lock(step):
        text, look = _lock(step.label), Look.LOCK
    else:
        look = Look.CHANGE if effects else Look.READ
        text = _joined(step.label, effects or seen or list(_otherwise(step, names)))
    if name_pages and (touched := _page_of(step)) is not None:
        text = f"[{touched}] {text}"
    return Telling(text, look, changed)


def changes(old: PageSeen, new: PageSeen) -> Iterator[str]:
    """What became of a page, field by field."""
    if new.state != old.state:
        yield f"{old.state} -> {new.state}"
    if new.changed != old.changed:
        yield f"C {int(old.changed)} -> {int(new.changed)}"
    yield from (f"+{flag}" for flag in new.flags if flag not in old.flags)
    yield from (f"-{flag}" for flag in old.flags if flag not in new.flags)
    if new.count != old.count:
        yield f"count {old.count} -> {new.count}"
    if new.mapcount != old.mapcount:
        yield f"mapcount {old.mapcount} -> {new.mapcount}"
    if new.incarnation != old.incarnation:
        yield f"use no. {new.incarnation} begins"
    if new.owner != old.owner and new.owner != "-":
        yield f"now {new.owner}"
    elif new.owner != old.owner != "free":
        yield f"leaves {old.owner}"


def _seen(step: RecordedStep, before: Sequence[PageSeen]) -> Iterator[str]:
    """The words of a page that a step reads, as they were."""
    pages = {page.pfn: page for page in before}
    for access in step.accesses:
        kind, number = access.resource
        page = pages.get(number)
        if access.write or page is None:
            continue
        match kind:
            case "flags":
                loud = [flag for flag in page.flags if flag not in QUIET_FLAGS]
                yield "sees " + (" ".join(loud) or "no flag")
            case "count" | "mapcount":
                yield f"{kind} {getattr(page, kind)}"
            case "mapping":
                yield page.owner


def _otherwise(step: RecordedStep, names: Mapping[Resource, str]) -> Iterator[str]:
    """What is known of a step that shows in no page."""
    ptes = [a.resource for a in step.accesses if a.resource[0] in ("pte", "tlb")]
    if ptes and ptes[0] in names:
        yield names[ptes[0]]
    elif step.said:
        yield step.said
    elif "test_and_set" in step.label:
        yield "was set"
    elif "test_and_clear" in step.label:
        yield "was clear"


def _page_of(step: RecordedStep) -> int | None:
    """The first page that a step names."""
    found = (access.resource for access in step.accesses)
    return next((number for kind, number in found if kind in PAGE_KINDS and number != ANY), None)


def _is_lock(step: RecordedStep) -> bool:
    return any(a.write and a.resource[0] in LOCK_KINDS for a in step.accesses)


LOCK_KINDS: Final = frozenset({"lock", "sem", "i_sem"})


def releases(label: str) -> bool:
    """Whether a step on a lock gives it back, by its label."""
    return "unlock" in label or label.rpartition(".")[2].startswith("up")


def lock_name(label: str) -> str:
    """What the lock is called, such as "ptl" for "ptl_unlock"."""
    for word in ("_unlock", "_lock", "up_", "down_", ".up", ".down"):
        label = label.replace(word, "")
    return {"read": "mmap_sem (read)", "write": "mmap_sem (write)"}.get(label, label)


def _lock(label: str) -> str:
    return f"{'releases' if releases(label) else 'takes'} {lock_name(label)}"


def _essa(operation: str, step: RecordedStep) -> str:
    """ESSA with its code, and the state that it found."""
    known = Orc.__members__.get(operation.upper())
    name = operation.replace("_", " ") if known is None else f"{known} {operation}"
    name = name.replace("_", " ")
    gone = " (gone)" if known is Orc.SET_STABLE_IF_RESIDENT and step.said == "was Vz" else ""
    return f"ESSA {name}: {step.said}{gone}" if step.said else f"ESSA {name}"


def _joined(name: str, parts: Sequence[str]) -> str:
    return f"{name}: {', '.join(parts)}" if parts else name


def _spoken(name: str) -> Callable[[RecordedStep, list[str]], str]:
    """The name, what it was told, and what changed."""
    return lambda step, effects: _joined(name, [*_told(step), *effects])


def _told(step: RecordedStep) -> list[str]:
    """What the host answered."""
    if step.said.startswith("fault "):
        return [f"discard {step.said}"]
    return [step.said] if step.said else []


def _change_bit(step: RecordedStep, _: list[str]) -> str:
    found = _page_of(step)
    bits = [int(page.changed) for page in step.pages if page.pfn == found]
    return "reads the change bit" + (f": C={bits[0]}" if bits else "")


def _commit(_: RecordedStep, effects: list[str]) -> str:
    gone = any(effect.endswith((" -> Vz", " -> Uz")) for effect in effects)
    return _joined("discards" if gone else "commits", effects or ["nothing changes"])


def _delivery(step: RecordedStep, effects: list[str]) -> str:
    return _joined(f"delivers discard fault {step.actor.rpartition('.')[2]}", effects)


_Words = Callable[[RecordedStep, list[str]], str]
_WORDS: Final[dict[str, tuple[_Words, Look]]] = {
    "iske": (_spoken("ISKE, reads the key"), Look.KEY),
    "sske": (_spoken("SSKE, sets the key"), Look.KEY),
    "rrbe": (_spoken("RRBE"), Look.KEY),
    "load": (_spoken("load"), Look.ACCESS),
    "store": (_spoken("store"), Look.ACCESS),
    "deviceload": (_spoken("device reads memory"), Look.ACCESS),
    "devicestore": (_spoken("device writes memory"), Look.ACCESS),
    "begin_eviction": (_spoken("begins to evict"), Look.HOST),
    "remove_access": (_spoken("takes access away"), Look.HOST),
    "read_change_bit": (_change_bit, Look.HOST),
    "commit": (_commit, Look.HOST),
    "submit_page_out": (_spoken("starts to page out"), Look.HOST),
    "submit_page_in": (_spoken("starts to page in"), Look.HOST),
    "page_out": (_spoken("page-out is done"), Look.HOST),
    "page_in": (_spoken("page-in is done"), Look.HOST),
    "drain_release_list": (_spoken("drains a release list"), Look.HOST),
    "resume": (_spoken("resumes a parked command"), Look.HOST),
    "deliver_fault": (_delivery, Look.FAULT),
    "discard_fault.arrive": (_spoken("discard fault arrives"), Look.FAULT),
    "interrupt": (_spoken("raises its interrupt"), Look.FAULT),
}
