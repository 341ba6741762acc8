"""Who somebody is: a role and a name, as certificates say it.

Rules:
- A certificate names its holder in one subject alternative name, the URI `essa:ROLE:NAME`.
- What is none of these is nobody: `parse` gives None and never guesses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a guest, a host or an operator may be called."""
NAME_BOUND: Final = "1 to 64 of A-Z a-z 0-9 . _ -"


class Role(StrEnum):
    """What the holder of a certificate may be."""

    HOST = "host"
    GUEST = "guest"
    OPERATOR = "operator"
    AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate says that its holder is."""

    role: Role
    name: str

    @property
    def uri(self) -> str:
        """As a certificate spells it."""
        return f"essa:{self.role}:{self.name}"

    def __str__(self) -> str:
        return f"{self.role} {self.name}"


def parse(uri: str) -> Identity | None:
    """The identity that a URI spells, or None."""
    scheme, _, rest = uri.partition(":")
    role, _, name = rest.partition(":")
    if scheme != "essa" or role not in set(Role) or NAME.fullmatch(name) is None:
        return None
    return Identity(Role(role), name)
