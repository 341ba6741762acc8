"""Bytes that no generated code would send.

Rules:
- What is in IGNORED changes nothing where it is appended to a message; what is in MALFORMED makes
  it none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from shared.rpc.channel import MESSAGE_BYTES_MAX

UNKNOWN: Final = 1000
"""A field's number that no message has."""
FIELD_MAX: Final = (1 << 29) - 1
GROUPS_MAX: Final = 100
"""Messages inside each other that a parser puts up with."""
VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)

_VALUES: Final = {VARINT: b"\1", FIXED64: bytes(8), BYTES: b"\2??", FIXED32: bytes(4)}
_WIRE_TYPES: Final = {
    FieldDescriptor.TYPE_STRING: BYTES,
    FieldDescriptor.TYPE_BYTES: BYTES,
    FieldDescriptor.TYPE_MESSAGE: BYTES,
    FieldDescriptor.TYPE_DOUBLE: FIXED64,
    FieldDescriptor.TYPE_FIXED64: FIXED64,
}
"""All others are varints."""


def varint(number: int) -> bytes:
    """A number as the wire has it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def tag(number: int, wire_type: int) -> bytes:
    """What stands before a field's value."""
    return varint(number << 3 | wire_type)


def _groups(depth: int) -> bytes:
    return tag(UNKNOWN, GROUP) * depth + tag(UNKNOWN, GROUP_END) * depth


IGNORED: Final = {
    **{f"unknown, wire type {kind}": tag(UNKNOWN, kind) + _VALUES[kind] for kind in _VALUES},
    "the last number there is": tag(FIELD_MAX, VARINT) + _VALUES[VARINT],
    "groups": _groups(GROUPS_MAX // 5),
}
MALFORMED: Final = {
    "half a tag": b"\xff",
    "no value": tag(UNKNOWN, VARINT),
    "half a number": tag(UNKNOWN, FIXED64) + bytes(7),
    "longer than it is": tag(UNKNOWN, BYTES) + varint(100) + b"short",
    "longer than all memory": tag(UNKNOWN, BYTES) + varint((1 << 64) - 1),
    "a number without end": tag(UNKNOWN, VARINT) + b"\xff" * 11,
    "field 0": tag(0, VARINT) + b"\1",
    "wire type 6": tag(UNKNOWN, 6),
    "wire type 7": tag(UNKNOWN, 7),
    "a group without end": tag(UNKNOWN, GROUP),
    "an end without group": tag(UNKNOWN, GROUP_END),
    "an end of another group": tag(UNKNOWN, GROUP) + tag(UNKNOWN + 1, GROUP_END),
    "groups without bottom": _groups(GROUPS_MAX * 2),
}
OVERSIZE: Final = tag(UNKNOWN, BYTES) + varint(MESSAGE_BYTES_MAX) + bytes(MESSAGE_BYTES_MAX)
"""A message as all others, but longer than any may be."""


def wrong_types(kind: Descriptor) -> bytes:
    """Every field of a message with every wire type that is not its own: ignored."""
    return b"".join(
        tag(field.number, wire_type) + value
        for field in kind.fields
        for wire_type, value in _VALUES.items()
        # Repeated numbers may come packed.
        if wire_type not in (_WIRE_TYPES.get(field.type, VARINT), BYTES)
    )


def wrong_insides(kind: Descriptor) -> Iterator[tuple[str, bytes]]:
    """Every field that holds a message or a text, down to the last, with what is neither."""
    yield from _wrong_insides(kind, "", 4)


def _wrong_insides(kind: Descriptor, path: str, depth: int) -> Iterator[tuple[str, bytes]]:
    for field in kind.fields:
        name = f"{path}.{field.name}"
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            insides = [(name, MALFORMED["wire type 7"])]
            if depth:
                insides += _wrong_insides(field.message_type, name, depth - 1)
        elif field.type == FieldDescriptor.TYPE_STRING:
            insides = [(name, b"\xff")]
        else:
            continue
        for what, inside in insides:
            yield what, tag(field.number, BYTES) + varint(len(inside)) + inside
