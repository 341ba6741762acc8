"""The replay file: a replay as TOML that a person can read in a review, and back.

Rules:
- The same replay is the same text, byte by byte: fields in a fixed order, no time, no path.
- What cannot be read is refused with one line that names the field; nothing is guessed, and a
  field that the format does not know is an error, not a comment.

The format is described in docs/REPLAYS.md.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from race_explorer.case import Case
from race_explorer.replays.anchors import POLICY, Deviation, StepName
from race_explorer.replays.case_text import case_from, case_table
from race_explorer.replays.replay import (
    FORMAT,
    HOLDS,
    VIOLATED,
    Expectation,
    FoundBy,
    Replay,
    Segment,
)

SUFFIX: Final = ".essa-replay"
LINE_LENGTH: Final = 100
_CASE_FIELDS: Final = tuple(entry.name for entry in fields(Case))


def load(path: Path) -> Replay:
    """Read a replay file. Raises ValueError, with one line that names file and field."""
    try:
        return loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is no text") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def loads(text: str) -> Replay:
    """The replay that a text describes. Raises ValueError, with one line that names the field."""
    try:
        whole = _Table("", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is no TOML, or not whole: {error}") from None
    found = whole.text("format")
    if found != FORMAT:
        raise ValueError(f"format: {found!r} is not known; this program reads {FORMAT!r}")
    policy = whole.text("policy")
    if policy != POLICY:
        raise ValueError(f"policy: {policy!r} is not known; this program has {POLICY!r}")
    case = case_from({name: whole.take(name) for name in _CASE_FIELDS if whole.has(name)})
    replay = Replay(
        case=case,
        source=whole.text("source"),
        schedule=tuple(_deviation(entry) for entry in whole.tables("schedule")),
        found_by=_found_by(whole.table("found_by")),
        expect=_expectation(whole.table("expect")),
    )
    whole.finish()
    return replay


def dumps(replay: Replay) -> str:
    """The replay as text. `loads` is its inverse."""
    expect, found_by = replay.expect, replay.found_by
    lines = [f"# {_headline(replay)}", f"format = {_text(FORMAT)}"]
    for name, value in case_table(replay.case).items():
        lines.append(f"{name} = {_text(value) if isinstance(value, str) else _array(value)}")
    lines += [f"source = {_text(replay.source)}", f"policy = {_text(POLICY)}"]
    for deviation in replay.schedule:
        lines += [
            "",
            "[[schedule]]",
            f"step = {deviation.step}",
            f"at = {_step(deviation.at)}",
            f"run = {_step(deviation.run)}",
        ]
    lines += ["", "[found_by]"]
    lines += [
        f"{entry.name} = {_value(getattr(found_by, entry.name))}" for entry in fields(FoundBy)
    ]
    lines += ["", "[expect]"]
    lines += [
        f"{entry.name} = {_value(getattr(expect, entry.name))}"
        for entry in fields(Expectation)
        if entry.name != "trail"
    ]
    lines.append("trail = [")
    lines += [f"  {_array([s.actor, s.digest, *s.labels])}," for s in expect.trail]
    lines.append("]")
    return "\n".join([*lines, ""])


def _headline(replay: Replay) -> str:
    case = replay.case
    missing = f" without {' and '.join(case.without)}" if case.without else ""
    where = f"{case.scenario}, preset {case.preset}{missing}"
    end = replay.expect.violation or "no violation"
    return f"{where}: {end}".replace("\n", " ")


# Writing.


def _text(value: str) -> str:
    """A basic string of TOML; what JSON escapes TOML does too, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: str | int) -> str:
    return _text(value) if isinstance(value, str) else str(value)


def _step(name: StepName) -> str:
    actor, label = _text(name.actor), _text(name.label)
    return f"{{ actor = {actor}, label = {label}, nth = {name.nth} }}"


def _array(items: Iterable[str]) -> str:
    """An array of strings, broken where its lines get too long."""
    lines = [""]
    for item in map(_text, items):
        if len(lines[-1]) + len(item) + 6 > LINE_LENGTH:
            lines.append("")
        lines[-1] += f"{item}, "
    return "[" + "\n    ".join(line.rstrip() for line in lines).removesuffix(",") + "]"


# Reading.


def _deviation(entry: _Table) -> Deviation:
    found = Deviation(
        at=_name(entry.table("at")), run=_name(entry.table("run")), step=entry.number("step", 1)
    )
    entry.finish()
    return found


def _name(entry: _Table) -> StepName:
    found = StepName(entry.text("actor"), entry.text("label"), entry.number("nth", 1))
    entry.finish()
    return found


def _found_by(entry: _Table) -> FoundBy:
    found = FoundBy(
        strategy=entry.text("strategy"),
        schedule=entry.number("schedule", 0),
        seed=entry.number("seed", -1),
        deviations=entry.number("deviations", 0),
        steps=entry.number("steps", 0),
        replays=entry.number("replays", 0),
    )
    entry.finish()
    return found


def _expectation(entry: _Table) -> Expectation:
    found = Expectation(
        verdict=entry.text("verdict"),
        signature=entry.text("signature"),
        violation=entry.text("violation"),
        steps=entry.number("steps", 0),
        digest=entry.text("digest"),
        trail=tuple(_segment(f"expect.trail[{i}]", item) for i, item in entry.items("trail")),
    )
    entry.finish()
    if found.verdict not in (VIOLATED, HOLDS):
        raise ValueError(f"expect.verdict: it must be {VIOLATED!r} or {HOLDS!r}")
    if (found.verdict == VIOLATED) != bool(found.signature):
        raise ValueError("expect.signature: a violation has one, and only a violation")
    if sum(len(segment.labels) for segment in found.trail) != found.steps:
        raise ValueError("expect.trail: it does not have as many steps as expect.steps says")
    return found


def _segment(where: str, item: object) -> Segment:
    parts = item if isinstance(item, list) else []
    if len(parts) < 3 or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{where}: it must be a list of an actor, a digest and labels")
    actor, digest, *labels = parts
    return Segment(actor, digest, tuple(labels))


class _Table:
    """A table whose fields are taken out one by one. Raises ValueError with the field's name."""

    def __init__(self, path: str, values: Mapping[str, object]) -> None:
        self._path = path
        self._values = dict(values)

    def has(self, name: str) -> bool:
        return name in self._values

    def take(self, name: str) -> object:
        if name not in self._values:
            raise ValueError(f"{self._path}{name}: it is missing")
        return self._values.pop(name)

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str):
            raise ValueError(f"{self._path}{name}: it must be a string")
        return value

    def number(self, name: str, least: int) -> int:
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{self._path}{name}: it must be a whole number from {least}")
        return value

    def table(self, name: str) -> _Table:
        value = self.take(name)
        if not isinstance(value, dict):
            raise ValueError(f"{self._path}{name}: it must be a table")
        return _Table(f"{self._path}{name}.", value)

    def items(self, name: str) -> Iterable[tuple[int, object]]:
        value = self.take(name)
        if not isinstance(value, list):
            raise ValueError(f"{self._path}{name}: it must be a list")
        return enumerate(value)

    def tables(self, name: str) -> list[_Table]:
        if not self.has(name):
            return []
        found = list[_Table]()
        for i, item in self.items(name):
            if not isinstance(item, dict):
                raise ValueError(f"{self._path}{name}[{i}]: it must be a table")
            found.append(_Table(f"{self._path}{name}[{i}].", item))
        return found

    def finish(self) -> None:
        """Refuse what nobody has asked for."""
        for name in self._values:
            raise ValueError(f"{self._path}{name}: there is no such field")
