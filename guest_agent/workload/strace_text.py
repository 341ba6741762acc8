"""strace's text, line by line, as calls with their arguments.

Rules:
- Lines are those of `strace -f -y -o FILE`: a process id, then a call, an exit or a signal.
- A call that another process interrupted comes in two lines, unfinished and resumed, and is
  one call at the place of the second.
- What is not understood is no call; it never ends the reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Call:
    """A finished system call."""

    pid: int
    name: str
    arguments: tuple[str, ...]
    result: int | None
    """None where strace prints `?`."""
    result_path: str | None = None
    """The path that -y prints behind a returned descriptor."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The task `pid` is gone: it exited, was killed, or another thread's execve took its place.

    by: the thread that goes on under the id `pid`, or None.
    """

    pid: int
    by: int | None = None


_LINE: Final = re.compile(r"(\d+)\s+(.*)", re.DOTALL)
_CALL: Final = re.compile(r"([a-z_][a-z0-9_]*)\(")
_RESUMED: Final = re.compile(r"<\.\.\. ([a-z_][a-z0-9_]*) resumed>,? ?")
_RESULT: Final = re.compile(r"\s*= (0x[0-9a-f]+|-?\d+|\?)(.*)", re.DOTALL)
_SUPERSEDED: Final = re.compile(r"\+\+\+ superseded by execve in pid (\d+) \+\+\+")
_UNFINISHED: Final = "<unfinished ...>"
_DESCRIPTOR: Final = re.compile(r"(AT_FDCWD|-?\d+)(?:<(.*)>(?:\(deleted\))?)?", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_LETTERS: Final = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f"}


def read_calls(lines: Iterable[str]) -> Iterator[Call | Ended]:
    """Yield calls in the order in which they ended, and the ends of tasks."""
    pending: dict[int, str] = {}
    for line in lines:
        match = _LINE.match(line.rstrip("\n"))
        if match is None:
            continue
        pid, text = int(match[1]), match[2]
        if text.startswith("+++"):
            superseded = _SUPERSEDED.match(text)
            pending.pop(pid, None)
            if superseded is None:
                yield Ended(pid)
            else:
                # The thread's unfinished execve ends under the leader's id.
                by = int(superseded[1])
                if by in pending:
                    pending[pid] = pending.pop(by)
                yield Ended(pid, by)
            continue
        if text.endswith(_UNFINISHED):
            pending[pid] = text.removesuffix(_UNFINISHED).rstrip()
            continue
        resumed = _RESUMED.match(text)
        if resumed is not None:
            begun = pending.pop(pid, resumed[1] + "(")
            rest = text[resumed.end() :]
            text = begun + (" " if begun.endswith(",") else "") + rest
        call = _parse(pid, text)
        if call is not None:
            yield call


def _parse(pid: int, text: str) -> Call | None:
    head = _CALL.match(text)
    if head is None:
        return None  # a signal, or a call that strace could not name
    arguments, end = split_arguments(text, head.end())
    tail = _RESULT.match(text, end)
    if tail is None:
        return None
    result = None if tail[1] == "?" else int(tail[1], 0)
    descriptor = _DESCRIPTOR.match(tail[1] + tail[2])
    path = descriptor[2] if descriptor is not None else None
    return Call(pid, head[1], tuple(arguments), result, None if path is None else unescape(path))


def split_arguments(text: str, start: int) -> tuple[list[str], int]:
    """Split from `start`, behind the opening parenthesis; return the place behind the closing.

    Commas inside strings, brackets and the <path> behind a descriptor split nothing.
    """
    arguments: list[str] = []
    depth, begin, place = 0, start, start
    while place < len(text):
        char = text[place]
        if char == '"':
            place = _string_end(text, place)
        elif char == "<" and (text[place - 1].isdigit() or text.startswith("AT_FDCWD", place - 8)):
            if text.startswith("<<", place):
                place += 1  # a shift
            else:
                place = _annotation_end(text, place)
        elif char in "([{":
            depth += 1
        elif char in ")]}" and depth:
            depth -= 1
        elif char == ")":
            last = text[begin:place].strip()
            return [*arguments, last] if last or arguments else [], place + 1
        elif char == "," and not depth:
            arguments.append(text[begin:place].strip())
            begin = place + 1
        place += 1
    return arguments, place


def _string_end(text: str, place: int) -> int:
    place += 1
    while place < len(text) and text[place] != '"':
        place += 2 if text[place] == "\\" else 1
    return place


def _annotation_end(text: str, place: int) -> int:
    """Return the place of the `>` that closes a path, skipping <char 1:3> inside it."""
    depth = 0
    while place < len(text):
        if text[place] == "<":
            depth += 1
        elif text[place] == ">" and text[place - 1] not in "-=":
            depth -= 1
            if not depth:
                return place
        place += 1
    return place


def unescape(text: str) -> str:
    """Undo C escapes; bytes that are no UTF-8 stay as surrogates."""
    if "\\" not in text:
        return text

    def replaced(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        if code[0] == "x" and len(code) == 3:
            return chr(int(code[1:], 16))
        return _LETTERS.get(code, code)

    # Escapes are bytes; what is not escaped is text already.
    raw = b"".join(
        replaced(match).encode("latin-1") if match else part.encode("utf-8", "surrogateescape")
        for part, match in _parts(text)
    )
    return raw.decode("utf-8", "surrogateescape")


def _parts(text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    place = 0
    for match in _ESCAPE.finditer(text):
        yield text[place : match.start()], None
        yield "", match
        place = match.end()
    yield text[place:], None


def descriptor(argument: str) -> tuple[int, str | None]:
    """Read `3</path>`: the number and the path, None without one. AT_FDCWD is -100."""
    match = _DESCRIPTOR.match(argument)
    if match is None:
        return -1, None
    number = -100 if match[1] == "AT_FDCWD" else int(match[1])
    return number, None if match[2] is None else unescape(match[2])


def integer(argument: str) -> int | None:
    """Read a decimal or hexadecimal number; None for anything else, such as NULL."""
    try:
        return int(argument, 0)
    except ValueError:
        return None


def quoted(argument: str) -> str | None:
    """Read a whole string argument; None if it is none, or was cut."""
    if len(argument) < 2 or argument[0] != '"' or argument[-1] != '"':
        return None
    return unescape(argument[1:-1])
