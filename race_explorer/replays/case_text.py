"""A case as fields of text, for files and tokens, and back.

Rules:
- A field of `Case` is a string or a tuple of strings; a new field of one of these kinds gets
  into files and tokens by itself.
- What comes from a file is held against what exists: scenario, preset, guards, actors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from race_explorer.case import Case

Table = dict[str, str | list[str]]


def case_table(case: Case) -> Table:
    """Every field by name, in the order of the class."""
    found: Table = {}
    for entry in fields(Case):
        value = getattr(case, entry.name)
        found[entry.name] = value if isinstance(value, str) else [*value]
    return found


def case_from(table: Mapping[str, object]) -> Case:
    """The case that a table describes; fields that it lacks are as they are by themselves.

    Raises ValueError, which names the field, for wrong types and for what does not exist.
    """
    usual = case_table(Case(""))
    unknown = [name for name in table if name not in usual]
    if unknown:
        raise ValueError(f"{unknown[0]}: there is no such field")
    if not isinstance(table.get("scenario"), str):
        raise ValueError("scenario: it must be there, and be a string")
    given: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(usual[name], str):
            if not isinstance(value, str):
                raise ValueError(f"{name}: it must be a string")
            given[name] = value
        else:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ValueError(f"{name}: it must be a list of strings")
            given[name] = tuple(value)
    case = Case(**given)  # type: ignore[arg-type]
    case.check()
    if case.dropped:
        there = replace(case, dropped=()).build().actors()
        for actor in case.dropped:
            if actor not in there:
                raise ValueError(f"dropped: no actor is called {actor!r} in {case.scenario}")
    return case
