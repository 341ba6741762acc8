"""Messages that no honest peer sends, drawn from a seed over the whole schema.

Rules:
- What a field may be is read from the descriptors: a new field is attacked as soon as it exists.
- A message is right but for some of its values, or its bytes are damaged, or it is no message.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

DEPTH_MAX: Final = 3
REPEATED_MAX: Final = 5
MANY: Final = 70_000
"""More than any repeated field of the wire may hold."""
MANY_BYTES: Final = 64
"""Of each value of so many."""
_INTEGERS: Final = (0, 1, 2, 3, 5, 7, 15, 16, 63, 64, 255, 4095, 4096, 65_535, 65_536, 2**31 - 1)
_UNSIGNED: Final = {
    FieldDescriptor.CPPTYPE_UINT32: 2**32 - 1,
    FieldDescriptor.CPPTYPE_UINT64: 2**64 - 1,
    FieldDescriptor.CPPTYPE_INT32: 2**31 - 1,
    FieldDescriptor.CPPTYPE_INT64: 2**63 - 1,
}


class Generator:
    """Draws messages. session: put where a session belongs, three times out of four.

    Not into CloseGuest: all that follows would be refused for want of a session.
    """

    def __init__(self, seed: int, session: Any) -> None:
        self._random = Random(seed)
        self._session = session

    def message(self, kind: Descriptor) -> bytes:
        """One message of this kind, or what is none."""
        random = self._random
        way = random.randrange(10)
        if way == 0:
            return random.randbytes(random.choice((1, 2, 7, 40, 400)))
        raw: bytes = self._filled(kind, 0).SerializeToString()
        if way == 1:
            return raw[: random.randrange(len(raw) + 1)]
        if way == 2 and raw:
            damaged = bytearray(raw)
            for _ in range(random.randint(1, 4)):
                damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
            return bytes(damaged)
        if way == 3:
            return raw + random.randbytes(random.randint(1, 9))
        return raw

    def _filled(self, kind: Descriptor, depth: int) -> Any:
        message = GetMessageClass(kind)()
        for field in kind.fields:
            if field.name == "session":
                if self._random.random() < 0.75 and kind.name != "CloseGuestRequest":
                    message.session.CopyFrom(self._session)
            elif self._random.random() < 0.7:
                self._fill(message, field, depth)
        return message

    def _fill(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        random = self._random
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if depth >= DEPTH_MAX:
                return
            count = random.randint(0, REPEATED_MAX) if field.is_repeated else 1
            for _ in range(count):
                part = self._filled(field.message_type, depth + 1)
                if field.is_repeated:
                    getattr(message, field.name).append(part)
                else:
                    getattr(message, field.name).CopyFrom(part)
        elif field.is_repeated:
            count = MANY if random.random() < 0.02 else random.randint(0, REPEATED_MAX)
            value = self._value(field)
            if count == MANY and isinstance(value, str | bytes):
                value = value[:MANY_BYTES]  # drawing must not hold up the calls in flight
            getattr(message, field.name).extend([value] * count)
        else:
            setattr(message, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        random = self._random
        if field.type == FieldDescriptor.TYPE_BYTES:
            return random.randbytes(random.choice((0, 1, 3, 4, 15, 16, 17, 64, 4096, 4097)))
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_BOOL:
                return random.random() < 0.5
            case FieldDescriptor.CPPTYPE_STRING:
                return random.choice(("", "a", "nobody", "x" * 65, "x" * 5000, "ü\0", "../e", "%s"))
            case FieldDescriptor.CPPTYPE_ENUM:
                return random.choice((0, 1, 2, 3, 99, -1, 2**31 - 1))
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return random.choice((0.0, -1.0, 1e-300, 1e300, float("inf"), float("nan")))
            case kind if kind in _UNSIGNED:
                top = _UNSIGNED[kind]
                return random.choice((*_INTEGERS, top, top - 1, random.randrange(top)))
        raise AssertionError(f"{field.full_name} is of a kind that nobody has thought of")
