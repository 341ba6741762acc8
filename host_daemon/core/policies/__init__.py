"""Reclaim policies: which frame goes next.

Rules:
- A policy is one module in this package, named after the policy with underscores for
  dashes, with a class `Policy`. Adding one is adding that file.
- A policy sees resident pages through the frame table: `kinds` says what the guest's
  hints and the change bit allow, `last_use` and `referenced` how recently it was used. It
  changes nothing but `referenced`.
- What a policy remembers is plain data, so that a restored host goes on as before.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol

from host_daemon.core.config import Choices
from host_daemon.core.frames import FrameTable
from shared.errors import InvalidRequestError


class ReclaimPolicy(Protocol):
    """Chooses victims, one at a time."""

    def choose(self, frames: FrameTable, *, may_page_out: bool) -> int:
        """A frame whose kind is above BUSY, and below KEPT unless pages may be written.

        Called only if there is one.
        """
        ...

    def snapshot(self) -> list[int]:
        """What the policy remembers."""
        ...

    def restore(self, data: list[int]) -> None:
        """The inverse of `snapshot`."""
        ...


def policy_names() -> list[str]:
    """All shipped policies, sorted."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def make_policy(name: str, choices: Choices) -> ReclaimPolicy:
    """A new policy by name. Raises InvalidRequestError for an unknown one."""
    if name not in policy_names():
        raise InvalidRequestError(
            f"policy is {name}; it must be one of {', '.join(policy_names())}",
            field="policy",
            value=name,
        )
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    policy: ReclaimPolicy = module.Policy(choices)
    return policy
