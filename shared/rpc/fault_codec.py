"""Message <-> injected fault; the fields are those of the table in `shared.faults`."""

from __future__ import annotations

from typing import Any, Final

from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.fault_fields import FIELDS
from shared.faults import KINDS, FaultSpec, Kind, Place, parse_fault, wrong

_WIRE_KINDS: Final[dict[Kind, Any]] = {
    kind: pb.FaultKind.Value(f"FAULT_KIND_{kind.name}")
    for kind, known in KINDS.items()
    if known.place is not Place.PROCESS
}
_KINDS: Final = {number: kind for kind, number in _WIRE_KINDS.items()}
_BY_ATTRIBUTE: Final = {field.attribute: field for field in FIELDS.values()}


def wire_kind(kind: Kind) -> Any:
    """The wire's number of a kind that a host brings about."""
    return _WIRE_KINDS[kind]


def kind_from_wire(number: int) -> Kind | None:
    """The kind; None for a number of a newer host."""
    return _KINDS.get(number)


def message_from_fault(spec: FaultSpec) -> pb.FaultSpec:
    """The wire's form. The kind is one that a host brings about."""
    message = pb.FaultSpec(kind=wire_kind(spec.kind))
    for key in KINDS[spec.kind].keys:
        attribute = FIELDS[key].attribute
        value: Any = getattr(spec, attribute)
        if not value:
            if key in KINDS[spec.kind].defaults:
                setattr(message, attribute, value)
        elif attribute == "pages":
            for pfns in value:
                message.pages.add(first_pfn=pfns.start, page_count=len(pfns))
        elif isinstance(value, tuple):
            getattr(message, attribute).extend(value)
        else:
            setattr(message, attribute, value)
    return message


def fault_from_message(message: pb.FaultSpec) -> FaultSpec:
    """Decode and check. Raises InvalidRequestError naming the field."""
    kind = kind_from_wire(message.kind)
    if kind is None:
        raise wrong("kind", message.kind, f"1 to {max(_KINDS)}")
    values: dict[str, object] = {}
    for descriptor, value in message.ListFields():
        if descriptor.name == "kind":
            continue
        key = _BY_ATTRIBUTE[descriptor.name].key
        values[key] = _ranges(value) if descriptor.name == "pages" else _plain(value)
    return parse_fault(kind, values)


def _plain(value: Any) -> object:
    return value if isinstance(value, str | int | float) else list(value)


def _ranges(pages: Any) -> list[str]:
    texts = []
    for part in pages:
        if not part.page_count:
            raise InvalidRequestError(
                "pages holds an empty range; it must hold at least 1 page", field="pages", value=0
            )
        texts.append(f"{part.first_pfn}-{part.first_pfn + part.page_count - 1}")
    return texts


def kinds() -> tuple[Kind, ...]:
    """The kinds that the wire knows."""
    return tuple(_WIRE_KINDS)
