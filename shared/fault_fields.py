"""The fields of faults as people write them: names, bounds, and how a text becomes a value.

Rules:
- A parser raises ValueError for what is out of its field's bound; who calls it knows the words.
- Values are frozen: tuples for lists, `range` for pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Parser = Callable[[list[str]], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field as people write it: `key`. bound: what its value must be, in words."""

    key: str
    attribute: str
    bound: str
    parse: Parser
    metavar: str
    help: str


NUMBER_MAX: Final = (1 << 32) - 1
LIST_MAX: Final = 64
WITHOUT_COMMAND: Final = ("AcknowledgeFaults", "OpenGuest", "CloseGuest")
"""Calls that name no issuer, no operation and no page."""
CALLS: Final = ("ExecuteEssa", *WITHOUT_COMMAND)
"""Methods that are one request and one answer."""
METHODS: Final = ("Execute", *CALLS, "SubscribeFaults")
STATES: Final = ("S", "U", "V", "P")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TEXT: Final = re.compile(r"[^\x00-\x1f]{1,4096}")


def _one(texts: list[str]) -> str:
    (text,) = texts
    return text


def _whole(low: int, high: int) -> Parser:
    def parse(texts: list[str]) -> int:
        number = int(_one(texts), 0)
        if not low <= number <= high:
            raise ValueError
        return number

    return parse


def _real(low: float, high: float) -> Parser:
    def parse(texts: list[str]) -> float:
        number = float(_one(texts))
        if not low <= number <= high:
            raise ValueError
        return number

    return parse


def _text(pattern: re.Pattern[str]) -> Parser:
    def parse(texts: list[str]) -> str:
        if pattern.fullmatch(text := _one(texts)) is None:
            raise ValueError
        return text

    return parse


def _every(parse_one: Parser) -> Parser:
    def parse(texts: list[str]) -> tuple[Any, ...]:
        if not 1 <= len(texts) <= LIST_MAX:
            raise ValueError
        return tuple(dict.fromkeys(parse_one([text]) for text in texts))

    return parse


def _among(*words: str) -> Parser:
    def parse(texts: list[str]) -> str:
        if (word := _one(texts)) not in words:
            raise ValueError
        return word

    return parse


def _pfns(texts: list[str]) -> range:
    low, dash, high = _one(texts).partition("-")
    first = int(low, 0)
    last = int(high, 0) if dash else first
    if not 0 <= first <= last <= NUMBER_MAX:
        raise ValueError
    return range(first, last + 1)


def _state(texts: list[str]) -> str:
    return str(_among(*STATES)([_one(texts).removesuffix("r")]))


def _field(
    key: str, attribute: str, bound: str, parse: Parser, metavar: str, text: str
) -> tuple[str, Field]:
    return key, Field(key, attribute, bound, parse, metavar, text)


_LIST: Final = f"1 to {LIST_MAX} of them, with commas between"

FIELDS: Final[dict[str, Field]] = dict(
    (
        _field(
            "guest",
            "guests",
            f"names of 1 to 64 of A-Z a-z 0-9 . _ -, {_LIST}",
            _every(_text(_NAME)),
            "NAMES",
            "Only these guests; otherwise every one.",
        ),
        _field(
            "method",
            "methods",
            f"some of {', '.join(METHODS)}",
            _every(_among(*METHODS)),
            "METHODS",
            "Only these calls of guests; by default Execute.",
        ),
        _field(
            "vcpu",
            "vcpus",
            f"numbers from 0 to 8191, {_LIST}",
            _every(_whole(0, 8191)),
            "NUMBERS",
            "Only commands of these vCPUs (or, behind the last one, devices).",
        ),
        _field(
            "orc",
            "orcs",
            f"operation request codes from 0 to 15, {_LIST}",
            _every(_whole(0, 15)),
            "ORCS",
            "Only ESSAs with these operation request codes.",
        ),
        _field(
            "pages",
            "pages",
            f"page numbers and ranges such as 7,0x400,16-31, {_LIST}",
            _every(_pfns),
            "PAGES",
            "Only these pages; of an array of ESSAs, any element's.",
        ),
        _field(
            "states",
            "states",
            f"some of {', '.join(STATES)}",
            _every(_state),
            "STATES",
            "Only resident pages of these usage states.",
        ),
        _field(
            "operation",
            "operations",
            "read, write, or read,write",
            _every(_among("read", "write")),
            "READ,WRITE",
            "Which transfers of the paging device.",
        ),
        _field(
            "side",
            "side",
            "request or reply",
            _among("request", "reply"),
            "SIDE",
            "What is delayed: request or reply.",
        ),
        _field(
            "nth",
            "nth",
            "1 to 1000000000",
            _whole(1, 10**9),
            "N",
            "Begin at the n-th match.",
        ),
        _field(
            "count",
            "count",
            "0 (no bound) to 1000000000",
            _whole(0, 10**9),
            "N",
            "Strike so many times, 0 until stopped.",
        ),
        _field(
            "odds",
            "odds",
            "more than 0 and at most 1",
            _real(1e-9, 1.0),
            "SHARE",
            "Strike at this share of the matches, drawn from the seed.",
        ),
        _field("seed", "seed", "0 to 4294967295", _whole(0, NUMBER_MAX), "N", "For all draws."),
        _field(
            "for",
            "for_seconds",
            "0.001 to 86400 seconds",
            _real(0.001, 86_400),
            "SECONDS",
            "End after this time.",
        ),
        _field(
            "delay",
            "delay_seconds",
            "0.001 to 60 seconds",
            _real(0.001, 60),
            "SECONDS",
            "How much later.",
        ),
        _field(
            "rate",
            "rate",
            "0.01 to 100000 a second",
            _real(0.01, 100_000),
            "N",
            "Pages, or messages, a second.",
        ),
        _field(
            "frames",
            "frames",
            "1 to 268435456 frames of 4 KiB",
            _whole(1, 1 << 28),
            "N",
            "How many frames are taken away.",
        ),
        _field(
            "percent",
            "percent",
            "1 to 99",
            _whole(1, 99),
            "N",
            "How much of the host's frames instead; by default 50.",
        ),
        _field(
            "pid-file",
            "pid_file",
            "the name of a file",
            _text(_TEXT),
            "FILE",
            "What --pid-file of essa host or essa guest has written.",
        ),
        _field(
            "container",
            "container",
            "a container's name: A-Z a-z 0-9 . _ -",
            _text(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")),
            "NAME",
            "A container instead, through the docker command.",
        ),
    )
)
