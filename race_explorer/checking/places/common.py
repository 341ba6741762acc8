"""What all tables of places use: the reasons for recording nothing, and how to name a resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from race_explorer.checking.lens import Override
from race_explorer.checking.recorder import Recorder, Resource

NUMBERS: Final = "numbers given out one after the other"
OBSERVED: Final = "no step looks at it"
DERIVED: Final = "follows from places that are recorded"
PASSING: Final = "made and taken in one step"
POLICY: Final = "only a reclaim policy looks at it"
ADDRESS_BITS: Final = 40
"""Resource numbers made of two have the second one in so many bits."""


def own(kind: str) -> Callable[..., Resource]:
    """A place by its owner's number; a container as a whole."""
    return lambda owner, _key=None: (kind, owner.number)


def one(kind: str, number: int = 0) -> Callable[..., Resource]:
    """A place that there is one of; a container as a whole."""
    return lambda _owner, _key=None: (kind, number)


def unrecorded(name: str) -> Override:
    """A method whose looks are nobody's."""

    def make(recorder: Recorder, kind: type) -> Callable[..., Any]:
        method = getattr(kind, name)
        return lambda *arguments: recorder.paused(method, *arguments)

    return make


def held_by(recorder: Recorder, kind: type) -> Callable[..., Any]:
    """Whether a vCPU holds a lock: asked by that vCPU itself, only it can change the answer."""
    method = kind.held_by  # type: ignore[attr-defined]

    def held_by(lock: Any, vcpu: int) -> Any:
        return recorder.paused(method, lock, vcpu) if vcpu == recorder.vcpu else method(lock, vcpu)

    return held_by
