"""A run as one word, for chats and logs: what is run, and which choices deviate from the policy.

Rules:
- A token is for the code that made it: its choices are indices. It carries digests of the
  scenario's text and of the run, and is refused, in words, where either is another.
- Nothing but its own letters and digits stands in it; a wrong one is found out by a checksum.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from typing import Final

from race_explorer.case import Case
from race_explorer.recording import Recording, record_with
from race_explorer.replays.anchors import Progress
from race_explorer.replays.case_text import case_from, case_table
from race_explorer.replays.guides import Guided, Indexed
from race_explorer.replays.replay import source_digest

PREFIX: Final = "ESSA1."
DIGEST_BYTES: Final = 4
CHECKSUM_BYTES: Final = 4
FIELD_END: Final = "\x1e"
ITEM_END: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says. choices: (step, from 1; index of the option), where it deviates.

    source, digest: the first bytes of the scenario's digest and of the run's, in hexadecimal.
    """

    case: Case
    source: str
    digest: str
    choices: tuple[tuple[int, int], ...]


def token_of(case: Case, recording: Recording) -> str:
    """The token of a recorded run of the case."""
    progress, choices = Progress(), list[tuple[int, int]]()
    for step in recording.steps:
        if progress.deviation(step.enabled, step.choice) is not None:
            choices.append((step.index, step.choice))
        progress.take(step.enabled[step.choice])
    digits = 2 * DIGEST_BYTES
    source, digest = source_digest(case)[:digits], recording.digest[:digits]
    return encode(Token(case, source, digest, tuple(choices)))


def follow(token: Token) -> Recording:
    """Run it. Raises ValueError if the code makes another run of it today."""
    chooser = Guided(Indexed(dict(token.choices)))
    recording = record_with(token.case.build, chooser)
    if not recording.digest.startswith(token.digest):
        raise ValueError(
            f"token: the code has changed since: the run's digest is {recording.digest}, "
            f"and the token's {token.digest}"
        )
    return recording


def encode(token: Token) -> str:
    """The token as text. Inverse of `decode`."""
    text = _case_text(token.case).encode()
    body = bytearray(bytes.fromhex(token.source + token.digest))
    body += _varint(len(text)) + text
    before = 0
    for step, choice in token.choices:
        body += _varint(step - before) + _varint(choice)
        before = step
    body += zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big")
    return PREFIX + base64.b32encode(body).decode().rstrip("=")


def decode(text: str) -> Token:
    """What a token says.

    Raises ValueError, with one line, for what is no token or a damaged one, and for one of a
    scenario that is unknown or was changed since.
    """
    word = text.strip().upper()
    if not word.startswith(PREFIX):
        raise ValueError(f"token: it does not begin with {PREFIX}")
    body = _checked_bytes(word[len(PREFIX) :])
    source, digest = body[:DIGEST_BYTES].hex(), body[DIGEST_BYTES : 2 * DIGEST_BYTES].hex()
    numbers = _Reader(body[2 * DIGEST_BYTES :])
    case = _case(numbers.text(numbers.number()))
    choices, step = list[tuple[int, int]](), 0
    while numbers.left:
        step += numbers.number()
        choices.append((step, numbers.number()))
    if not source_digest(case).startswith(source):
        raise ValueError(f"token: scenario {case.scenario} has changed since it was made")
    return Token(case, source, digest, tuple(choices))


def _checked_bytes(letters: str) -> bytes:
    try:
        whole = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except binascii.Error:
        raise ValueError("token: it holds what no token holds, or is not whole") from None
    body, checksum = whole[:-CHECKSUM_BYTES], whole[-CHECKSUM_BYTES:]
    if len(body) <= 2 * DIGEST_BYTES or zlib.crc32(body) != int.from_bytes(checksum, "big"):
        raise ValueError("token: its checksum is wrong: a character is missing or another")
    return body


def _case_text(case: Case) -> str:
    """The scenario, then every field that is not what it is by itself."""
    usual = case_table(Case(case.scenario))
    parts = [case.scenario]
    for name, value in case_table(case).items():
        if value != usual[name]:
            parts.append(f"{name}={value if isinstance(value, str) else ITEM_END.join(value)}")
    return FIELD_END.join(parts)


def _case(text: str) -> Case:
    scenario, *parts = text.split(FIELD_END)
    table = case_table(Case(scenario))
    for part in parts:
        name, _, value = part.partition("=")
        table[name] = value.split(ITEM_END) if isinstance(table.get(name), list) else value
    try:
        return case_from(table)
    except ValueError as error:
        raise ValueError(f"token: {error}") from None


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


class _Reader:
    """Takes a token's bytes apart. Raises ValueError where they end too early."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._body)

    def number(self) -> int:
        value = shift = 0
        while self.left:
            byte = self._body[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value
        raise ValueError("token: it ends within a number")

    def text(self, length: int) -> str:
        found = self._body[self._at : self._at + length]
        self._at += length
        return found.decode()
