"""Which of the failures that end a guest's tasks together is the one to tell."""

from __future__ import annotations

from typing import Final

from guest_agent.kernel.cpu import KernelBug
from guest_agent.watch import DeadlockError
from shared.errors import StaleIncarnationError

_GRAVEST: Final[tuple[type[BaseException], ...]] = (
    KernelBug,
    DeadlockError,
    AssertionError,
    StaleIncarnationError,
)


def reason_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one failure, of those that came together, that explains the others."""
    leaves = list(_leaves(failures))
    for kind in _GRAVEST:
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(failures: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for failure in failures.exceptions:
        found += _leaves(failure) if isinstance(failure, BaseExceptionGroup) else [failure]
    return found
