"""Which violation it is: what of its text stays the same when the schedule gets shorter.

Rules:
- The first violation of a run counts; the others come of it.
- Who reported it, which page it was, its versions and counts do not matter: numbers become "N".
- Of a dead-lock it matters where actors stand, not which or how many stand there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_REPORTER: Final = re.compile(r"^(?!deadlock: )[a-z][\w.-]*: ")
_PAGE: Final = re.compile(r":? pfn \d+ flags .*$")
_HEXADECIMAL: Final = re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{16,})\b")
_TUPLE: Final = re.compile(r"\(\d+(?:, \d+)*,?\)")
_NUMBER: Final = re.compile(r"\d+")
_DEADLOCK: Final = "deadlock: "


def signature(violations: Sequence[str]) -> str:
    """The kind of the first violation, such as "discard of a page in use"; "" for none."""
    if not violations:
        return ""
    line = violations[0].partition("\n")[0]
    if line.startswith(_DEADLOCK):
        places = {place.partition(" at ")[2] for place in line[len(_DEADLOCK) :].split(", ")}
        return f"{_DEADLOCK}{', '.join(sorted(places))}"
    kind = _PAGE.sub("", _REPORTER.sub("", line))
    return _NUMBER.sub("N", _TUPLE.sub("(N)", _HEXADECIMAL.sub("N", kind)))
