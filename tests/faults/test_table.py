"""The table of faults: every kind, by text and over the wire; what is wrong is named."""

from __future__ import annotations

from dataclasses import fields

import pytest

from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.fault_fields import FIELDS, METHODS
from shared.faults import KINDS, FaultSpec, Kind, Place, kind_named, parse_fault, values_of
from shared.rpc.fault_codec import fault_from_message, kinds, message_from_fault

SAMPLES = {
    "guest": "web-1,web-2",
    "method": "Execute",
    "vcpu": "0,3",
    "orc": "3,4",
    "pages": "7,0x10-0x1f",
    "states": "V,Pr",
    "operation": "read",
    "side": "reply",
    "nth": "3",
    "count": "12",
    "odds": "0.123456789",
    "seed": "42",
    "for": "2.5",
    "delay": "0.25",
    "rate": "12.5",
    "frames": "100",
    "percent": "30",
    "pid-file": "run/host, one.pid",
    "container": "essa_guest_1",
}


def filled(kind: Kind) -> FaultSpec:
    """The kind with every field that it takes."""
    left_out = {"percent", "container"}
    values = {key: SAMPLES[key] for key in KINDS[kind].keys if key not in left_out}
    return parse_fault(kind, values)


def test_the_wire_has_the_kinds_and_fields_of_the_table() -> None:
    wire = {value.name for value in pb.FaultKind.DESCRIPTOR.values if value.number}
    assert wire == {f"FAULT_KIND_{kind.name}" for kind in kinds()}
    attributes = {field.name for field in fields(FaultSpec)} - {"kind"}
    assert {field.attribute for field in FIELDS.values()} == attributes
    assert set(pb.FaultSpec.DESCRIPTOR.fields_by_name) == {
        "kind",
        *attributes - {"pid_file", "container"},
    }
    assert set(KINDS) == set(Kind)
    service = pb.DESCRIPTOR.services_by_name["EssaService"]
    assert set(METHODS) <= {method.name for method in service.methods}


@pytest.mark.parametrize("kind", Kind)
def test_text_and_back(kind: Kind) -> None:
    spec = filled(kind)
    assert parse_fault(kind, values_of(spec)) == spec
    assert kind_named(str(kind)) is kind


@pytest.mark.parametrize("kind", kinds())
def test_wire_and_back(kind: Kind) -> None:
    for spec in (filled(kind), parse_fault(kind, {})):
        assert fault_from_message(message_from_fault(spec)) == spec


WRONG: list[tuple[Kind, dict[str, object], str]] = [
    (Kind.DELAY, {"delay": "61"}, "--delay is '61'; it must be 0.001 to 60 seconds"),
    (Kind.DELAY, {"delay": "nan"}, "--delay is 'nan'"),
    (Kind.DELAY, {"side": "both"}, "--side is 'both'; it must be request or reply"),
    (Kind.DELAY, {"nth": 0}, "--nth is 0; it must be 1 to"),
    (Kind.DELAY, {"odds": 0}, "--odds is 0; it must be more than 0"),
    (Kind.DELAY, {"odds": 1.5}, "--odds is 1.5"),
    (Kind.DELAY, {"nth": True}, "--nth is True"),
    (Kind.DELAY, {"orc": "16"}, "--orc is '16'; it must be operation request codes from 0 to 15"),
    (Kind.DELAY, {"orc": [1, 2, 99]}, "--orc is"),
    (Kind.DELAY, {"vcpu": ""}, "--vcpu is ''"),
    (Kind.DELAY, {"pages": "9-7"}, "--pages is '9-7'"),
    (Kind.DELAY, {"guest": "a b"}, "--guest is 'a b'"),
    (Kind.DELAY, {"method": "GetStatus"}, "--method is 'GetStatus'"),
    (Kind.DELAY, {"method": "SubscribeFaults"}, "--method is 'SubscribeFaults'; it must be for d"),
    (Kind.DUPLICATE, {"method": "OpenGuest"}, "--method is 'OpenGuest'; it must be for duplicate"),
    (
        Kind.DELAY,
        {"method": "ExecuteEssa,CloseGuest", "vcpu": "1"},
        "--method is 'CloseGuest'; it must be one with a command, as vcpu is given",
    ),
    (Kind.RESET, {"method": "OpenGuest", "pages": "1"}, "a command, as pages is given"),
    (Kind.DUPLICATE, {"method": "ExecuteEssa"}, "--method is 'ExecuteEssa'; it must be for dupl"),
    (Kind.DELAY, {"rate": "3"}, "--rate is no field of delay; it takes method, guest"),
    (Kind.DELAY, {"colour": "red"}, "--colour is no field of delay"),
    (Kind.EVICT, {"states": "Z"}, "--states is 'Z'; it must be some of S, U, V, P"),
    (Kind.EVICT, {"rate": "0"}, "--rate is '0'"),
    (Kind.MEMORY_PRESSURE, {"frames": "5", "percent": "5"}, "--percent is 5; it must be left out"),
    (Kind.DEVICE_SLOW, {"vcpu": "1"}, "--vcpu is no field of device-slow; it takes operation"),
    (Kind.DEVICE_FULL, {"guest": "web"}, "--guest is no field of device-full; it takes for"),
    (Kind.DEVICE_FAILING, {"operation": "erase"}, "--operation is 'erase'; it must be read"),
    (Kind.KILL, {}, "--pid-file is missing; name a pid-file or a container"),
    (Kind.KILL, {"pid-file": "a", "container": "b"}, "only one"),
]


@pytest.mark.parametrize(("kind", "values", "text"), WRONG)
def test_what_is_wrong_is_named(kind: Kind, values: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_fault(kind, values, "--")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        pb.FaultSpec(),
        pb.FaultSpec(kind=99),  # type: ignore[arg-type]
        pb.FaultSpec(kind=pb.FAULT_KIND_DELAY, rate=3),
        pb.FaultSpec(kind=pb.FAULT_KIND_DELAY, delay_seconds=float("inf")),
        pb.FaultSpec(kind=pb.FAULT_KIND_DELAY, guests=["x"] * 65 + ["y"]),
        pb.FaultSpec(kind=pb.FAULT_KIND_DELAY, pages=[pb.PageRange(first_pfn=1)]),
        pb.FaultSpec(
            kind=pb.FAULT_KIND_DELAY, pages=[pb.PageRange(first_pfn=9, page_count=0xFFFFFFFF)]
        ),
        pb.FaultSpec(kind=pb.FAULT_KIND_DELAY, nth=0),
    ],
)
def test_the_wire_is_held_to_the_same_bounds(message: pb.FaultSpec) -> None:
    with pytest.raises(InvalidRequestError):
        fault_from_message(message)


def test_every_kind_says_what_it_does() -> None:
    for kind, known in KINDS.items():
        assert known.help.endswith("."), kind
        assert known.defaults.keys() <= set(known.keys), kind
        assert known.place is Place.RPC or not known.methods, kind
