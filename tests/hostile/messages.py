"""Messages that no honest peer sends, drawn from a seed over the whole schema.

Rules:
- What a field may be is read from the descriptors: a new field is attacked as soon as it exists.
- A message is right but for some of its values, or its bytes are damaged, or it is no message.
- What would do harm that its sender may do is not drawn: a guest of one's own that is closed, and
  a fault that may be injected.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import inf, nan
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.fault_codec import fault_from_message, kinds, wire_kind
from tests.hostile.wire import IGNORED, MALFORMED, OVERSIZE, wrong_insides, wrong_types

DEPTH_MAX: Final = 3
REPEATED_MAX: Final = 5
MANY: Final = 70_000
"""More than any repeated field of the wire may hold."""
MANY_BYTES: Final = 64
"""Of each value of so many."""
OVERSIZE_ODDS: Final = 0.0005
_INTEGERS: Final = (0, 1, 2, 3, 5, 7, 15, 16, 63, 64, 255, 4095, 4096, 65_535, 65_536, 2**31 - 1)
_UNSIGNED: Final = {
    FieldDescriptor.CPPTYPE_UINT32: 2**32 - 1,
    FieldDescriptor.CPPTYPE_UINT64: 2**64 - 1,
    FieldDescriptor.CPPTYPE_INT32: 2**31 - 1,
    FieldDescriptor.CPPTYPE_INT64: 2**63 - 1,
}
_TEXTS: Final = ("", "a", "nobody", "x" * 65, "x" * 5000, "ü\0", "../e", "%s")
_KINDS: Final = [
    kind for name, kind in pb.DESCRIPTOR.message_types_by_name.items() if name.endswith("Request")
]

WRONG_FAULTS: Final = (
    *(pb.FaultSpec(nth=nth) for nth in (0, 10**9 + 1)),
    pb.FaultSpec(count=10**9 + 1),
    *(pb.FaultSpec(odds=odds) for odds in (0.0, -1.0, 1.0001, inf, nan)),
    *(pb.FaultSpec(for_seconds=seconds) for seconds in (0.0, -1.0, 86_401.0, inf, nan)),
    *(pb.FaultSpec(delay_seconds=seconds) for seconds in (0.0, -1.0, 60.1, inf, nan)),
    *(pb.FaultSpec(rate=rate) for rate in (0.0, -1.0, 1e6, inf, nan)),
    *(pb.FaultSpec(frames=frames) for frames in (0, (1 << 28) + 1)),
    *(pb.FaultSpec(percent=percent) for percent in (0, 100, 2**32 - 1)),
    *(pb.FaultSpec(vcpus=vcpus) for vcpus in ([8192], [0] * 65)),
    *(pb.FaultSpec(orcs=orcs) for orcs in ([16], [0] * 65)),
    *(pb.FaultSpec(guests=guests) for guests in (["ü"], [""], ["a" * 65], ["a"] * 65)),
    *(pb.FaultSpec(methods=methods) for methods in (["GetStatus"], [""])),
    *(pb.FaultSpec(states=states) for states in (["X"], ["S"] * 65)),
    *(pb.FaultSpec(operations=operations) for operations in (["erase"], ["read"] * 65)),
    *(pb.FaultSpec(side=side) for side in ("", "both")),
    pb.FaultSpec(pages=[pb.PageRange()]),
    pb.FaultSpec(pages=[pb.PageRange(first_pfn=2**32 - 1, page_count=2)]),
    pb.FaultSpec(pages=[pb.PageRange(page_count=1)] * 65),
)
"""Each is refused of every kind: it is out of its bound, or the kind does not take it."""


def _right(name: str) -> dict[str, Any]:
    """Requests that the guest of this name may make, its session left out."""
    page = pb.PageRange(first_pfn=3, page_count=2)
    store = pb.NumberedCommand(vcpu=0, number=1, store=pb.Store(pfn=3, data=b"evil", repeat=8))
    array = pb.NumberedCommand(vcpu=1, number=1, essa_array=pb.EssaArray(orcs=b"\3", pfns=bytes(4)))
    requests = (
        pb.OpenGuestRequest(name="a", page_count=64, vcpu_count=2, mode=pb.MODE_SEED),
        pb.ExecuteEssaRequest(vcpu=2, essa=pb.Essa(orc=3, pfn=3)),
        pb.ExecuteRequest(commands=[store, array]),
        pb.AcknowledgeFaultsRequest(numbers=[1]),
        pb.GetGuestRequest(name=name),
        pb.GetPageMapRequest(name=name, first_pfn=3, page_count=2),
        pb.EvictPagesRequest(name=name, ranges=[page]),
        pb.WatchEventsRequest(guests=[name], kinds=[pb.EVENT_KIND_GUEST_OPENED]),
    )
    return {request.DESCRIPTOR.name: request for request in requests}


def may_be_injected(raw: bytes) -> bool:
    """Whether an InjectFaultRequest does what operators may do."""
    try:
        request = pb.InjectFaultRequest.FromString(raw)
        fault_from_message(request.fault)
    except (DecodeError, InvalidRequestError):
        return False
    return True


class Generator:
    """Draws messages. session, name: of a guest of its own. taken: the name of another one. right:
    requests that may be made, besides those of a guest.

    The session goes where one belongs, three times out of four, but not into CloseGuest: all that
    follows would be refused for want of a session.
    """

    def __init__(
        self, seed: int, session: Any, name: str, taken: str, right: Sequence[Any] = ()
    ) -> None:
        self._random = Random(seed)
        self._session = session
        self._name, self._taken = name, taken
        self._right = _right(name) | {request.DESCRIPTOR.name: request for request in right}

    def message(self, kind: Descriptor) -> bytes:
        """One message of this kind, or what is none."""
        request = self._request(kind)
        if isinstance(request, pb.InjectFaultRequest):
            self._spoil(request.fault)
        right: bytes = request.SerializeToString()
        raw = self._damaged(kind, right)
        if isinstance(request, pb.InjectFaultRequest) and may_be_injected(raw):
            return right
        return raw

    def _damaged(self, kind: Descriptor, raw: bytes) -> bytes:
        random = self._random
        if random.random() < OVERSIZE_ODDS:
            return raw + OVERSIZE
        match random.randrange(18):
            case 0:
                return random.randbytes(random.choice((1, 2, 7, 40, 400)))
            case 1:
                return raw[: random.randrange(len(raw) + 1)]
            case 2 if raw:
                damaged = bytearray(raw)
                for _ in range(random.randint(1, 4)):
                    damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
                return bytes(damaged)
            case 3:
                return raw + random.randbytes(random.randint(1, 9))
            case 4:
                return raw + random.choice(list(IGNORED.values()))
            case 5:
                return raw + wrong_types(kind)
            case 6:
                return raw + random.choice(list(MALFORMED.values()))
            case 7 if insides := _insides(kind):
                return raw + random.choice(insides)
            case 8:
                other: bytes = self._filled(random.choice(_KINDS), 0).SerializeToString()
                return other if kind.name != "CloseGuestRequest" else raw
        return raw

    def _spoil(self, fault: pb.FaultSpec) -> None:
        """Leave something in it that no kind of fault admits, half of the time alone."""
        if self._random.random() < 0.5:
            fault.Clear()
            fault.kind = wire_kind(self._random.choice(kinds()))
        fault.MergeFrom(self._random.choice(WRONG_FAULTS))

    def _request(self, kind: Descriptor) -> Any:
        """Whatever the schema has, or what is right but for one value."""
        right = self._right.get(kind.name)
        if right is None or self._random.random() < 0.5:
            return self._filled(kind, 0)
        request = GetMessageClass(kind)()
        request.CopyFrom(right)
        self._alter(request, kind)
        if "session" in kind.fields_by_name:
            self._put_session(request, kind)
        return request

    def _alter(self, message: Any, kind: Descriptor) -> None:
        """Draw one value anew, here or in what stands inside."""
        field = self._random.choice([one for one in kind.fields if one.name != "session"])
        inside = {one.name: value for one, value in message.ListFields()}.get(field.name)
        if field.message_type is None or inside is None:
            message.ClearField(field.name)
            self._fill(message, field, 0)
        else:
            self._alter(inside[0] if field.is_repeated else inside, field.message_type)

    def _filled(self, kind: Descriptor, depth: int) -> Any:
        message = GetMessageClass(kind)()
        for field in kind.fields:
            if field.name == "session":
                self._put_session(message, kind)
            elif self._random.random() < 0.7:
                self._fill(message, field, depth)
        return message

    def _put_session(self, message: Any, kind: Descriptor) -> None:
        random, own = self._random, self._session
        if kind.name == "CloseGuestRequest":
            message.session.token = random.randbytes(random.choice((0, 15, 16, 17)))
            message.session.incarnation = random.choice((0, 1, own.incarnation))
            return
        if random.random() < 0.75:
            message.session.CopyFrom(own)
            return
        token = random.choice((b"", own.token[:-1], own.token + b"\0", random.randbytes(16)))
        match random.randrange(3):
            case 0:
                message.session.token, message.session.incarnation = token, own.incarnation
            case 1:
                message.session.token = own.token
                message.session.incarnation = random.choice((0, 1, own.incarnation ^ 1))

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

    def _text(self, field: FieldDescriptor) -> str:
        """Names of guests that there are come often, but another's only where it is refused."""
        odds = self._random.random()
        if odds < 0.2 and field.full_name == "essa.v1.OpenGuestRequest.name":
            return self._taken
        return self._name if odds < 0.4 else self._random.choice(_TEXTS)

    def _value(self, field: FieldDescriptor) -> Any:
        random = self._random
        if field.type == FieldDescriptor.TYPE_BYTES:
            return random.randbytes(random.choice((0, 1, 3, 4, 15, 16, 17, 64, 4096, 4097)))
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_BOOL:
                return random.random() < 0.5
            case FieldDescriptor.CPPTYPE_STRING:
                return self._text(field)
            case FieldDescriptor.CPPTYPE_ENUM:
                return random.choice((0, 1, 2, 3, 99, -1, 2**31 - 1))
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return random.choice((0.0, -1.0, 1e-300, 1e300, inf, nan))
            case kind if kind in _UNSIGNED:
                top = _UNSIGNED[kind]
                return random.choice((*_INTEGERS, top, top - 1, random.randrange(top)))
        raise AssertionError(f"{field.full_name} is of a kind that nobody has thought of")


@cache
def _insides(kind: Descriptor) -> list[bytes]:
    return [inside for _, inside in wrong_insides(kind)]
