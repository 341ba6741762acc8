import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_GUEST_OPENED: _ClassVar[EventKind]
    EVENT_KIND_GUEST_CLOSED: _ClassVar[EventKind]
    EVENT_KIND_PAGE_DISCARDED: _ClassVar[EventKind]
    EVENT_KIND_PAGE_OUT_DONE: _ClassVar[EventKind]
    EVENT_KIND_PAGE_OUT_FAILED: _ClassVar[EventKind]
    EVENT_KIND_PAGE_IN_DONE: _ClassVar[EventKind]
    EVENT_KIND_PAGE_IN_FAILED: _ClassVar[EventKind]
    EVENT_KIND_DISCARD_FAULT_RAISED: _ClassVar[EventKind]
    EVENT_KIND_DISCARD_FAULT_DELIVERED: _ClassVar[EventKind]
    EVENT_KIND_DISCARD_FAULT_ACKNOWLEDGED: _ClassVar[EventKind]
    EVENT_KIND_MACHINE_CHECK: _ClassVar[EventKind]
    EVENT_KIND_RECLAIM_BEGUN: _ClassVar[EventKind]
    EVENT_KIND_RECLAIM_ENDED: _ClassVar[EventKind]
    EVENT_KIND_HOST_STUCK: _ClassVar[EventKind]
    EVENT_KIND_HOST_UNSTUCK: _ClassVar[EventKind]
    EVENT_KIND_FAULT_INJECTED: _ClassVar[EventKind]
    EVENT_KIND_FAULT_ENDED: _ClassVar[EventKind]
    EVENT_KIND_EVENTS_MISSED: _ClassVar[EventKind]

class FaultKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAULT_KIND_UNSPECIFIED: _ClassVar[FaultKind]
    FAULT_KIND_EVICT: _ClassVar[FaultKind]
    FAULT_KIND_MEMORY_PRESSURE: _ClassVar[FaultKind]
    FAULT_KIND_REQUEST_LOST: _ClassVar[FaultKind]
    FAULT_KIND_REPLY_LOST: _ClassVar[FaultKind]
    FAULT_KIND_DELAY: _ClassVar[FaultKind]
    FAULT_KIND_DUPLICATE: _ClassVar[FaultKind]
    FAULT_KIND_RESET: _ClassVar[FaultKind]
    FAULT_KIND_SLOW_CONSUMER: _ClassVar[FaultKind]
    FAULT_KIND_FAULT_DELAY: _ClassVar[FaultKind]
    FAULT_KIND_FAULT_DUPLICATE: _ClassVar[FaultKind]
    FAULT_KIND_FAULT_HOLD: _ClassVar[FaultKind]
    FAULT_KIND_DEVICE_SLOW: _ClassVar[FaultKind]
    FAULT_KIND_DEVICE_FAILING: _ClassVar[FaultKind]
    FAULT_KIND_DEVICE_FULL: _ClassVar[FaultKind]
    FAULT_KIND_DEVICE_CORRUPT: _ClassVar[FaultKind]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_SEED: _ClassVar[Mode]
    MODE_KVM: _ClassVar[Mode]
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_GUEST_OPENED: EventKind
EVENT_KIND_GUEST_CLOSED: EventKind
EVENT_KIND_PAGE_DISCARDED: EventKind
EVENT_KIND_PAGE_OUT_DONE: EventKind
EVENT_KIND_PAGE_OUT_FAILED: EventKind
EVENT_KIND_PAGE_IN_DONE: EventKind
EVENT_KIND_PAGE_IN_FAILED: EventKind
EVENT_KIND_DISCARD_FAULT_RAISED: EventKind
EVENT_KIND_DISCARD_FAULT_DELIVERED: EventKind
EVENT_KIND_DISCARD_FAULT_ACKNOWLEDGED: EventKind
EVENT_KIND_MACHINE_CHECK: EventKind
EVENT_KIND_RECLAIM_BEGUN: EventKind
EVENT_KIND_RECLAIM_ENDED: EventKind
EVENT_KIND_HOST_STUCK: EventKind
EVENT_KIND_HOST_UNSTUCK: EventKind
EVENT_KIND_FAULT_INJECTED: EventKind
EVENT_KIND_FAULT_ENDED: EventKind
EVENT_KIND_EVENTS_MISSED: EventKind
FAULT_KIND_UNSPECIFIED: FaultKind
FAULT_KIND_EVICT: FaultKind
FAULT_KIND_MEMORY_PRESSURE: FaultKind
FAULT_KIND_REQUEST_LOST: FaultKind
FAULT_KIND_REPLY_LOST: FaultKind
FAULT_KIND_DELAY: FaultKind
FAULT_KIND_DUPLICATE: FaultKind
FAULT_KIND_RESET: FaultKind
FAULT_KIND_SLOW_CONSUMER: FaultKind
FAULT_KIND_FAULT_DELAY: FaultKind
FAULT_KIND_FAULT_DUPLICATE: FaultKind
FAULT_KIND_FAULT_HOLD: FaultKind
FAULT_KIND_DEVICE_SLOW: FaultKind
FAULT_KIND_DEVICE_FAILING: FaultKind
FAULT_KIND_DEVICE_FULL: FaultKind
FAULT_KIND_DEVICE_CORRUPT: FaultKind
MODE_UNSPECIFIED: Mode
MODE_SEED: Mode
MODE_KVM: Mode

class OpenGuestRequest(_message.Message):
    __slots__ = ("name", "page_count", "vcpu_count", "device_count", "mode", "essa_enabled", "unused_access_resident_ok", "unbacked_ranges", "take_over")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    VCPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ESSA_ENABLED_FIELD_NUMBER: _ClassVar[int]
    UNUSED_ACCESS_RESIDENT_OK_FIELD_NUMBER: _ClassVar[int]
    UNBACKED_RANGES_FIELD_NUMBER: _ClassVar[int]
    TAKE_OVER_FIELD_NUMBER: _ClassVar[int]
    name: str
    page_count: int
    vcpu_count: int
    device_count: int
    mode: Mode
    essa_enabled: bool
    unused_access_resident_ok: bool
    unbacked_ranges: _containers.RepeatedCompositeFieldContainer[PageRange]
    take_over: bool
    def __init__(self, name: _Optional[str] = ..., page_count: _Optional[int] = ..., vcpu_count: _Optional[int] = ..., device_count: _Optional[int] = ..., mode: _Optional[_Union[Mode, str]] = ..., essa_enabled: bool = ..., unused_access_resident_ok: bool = ..., unbacked_ranges: _Optional[_Iterable[_Union[PageRange, _Mapping]]] = ..., take_over: bool = ...) -> None: ...

class OpenGuestResponse(_message.Message):
    __slots__ = ("session", "guest_id")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    GUEST_ID_FIELD_NUMBER: _ClassVar[int]
    session: Session
    guest_id: int
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., guest_id: _Optional[int] = ...) -> None: ...

class ExecuteEssaRequest(_message.Message):
    __slots__ = ("session", "vcpu", "essa")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    VCPU_FIELD_NUMBER: _ClassVar[int]
    ESSA_FIELD_NUMBER: _ClassVar[int]
    session: Session
    vcpu: int
    essa: Essa
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., vcpu: _Optional[int] = ..., essa: _Optional[_Union[Essa, _Mapping]] = ...) -> None: ...

class ExecuteEssaResponse(_message.Message):
    __slots__ = ("essa_state", "program_interruption_code", "machine_check")
    ESSA_STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_INTERRUPTION_CODE_FIELD_NUMBER: _ClassVar[int]
    MACHINE_CHECK_FIELD_NUMBER: _ClassVar[int]
    essa_state: int
    program_interruption_code: int
    machine_check: MachineCheck
    def __init__(self, essa_state: _Optional[int] = ..., program_interruption_code: _Optional[int] = ..., machine_check: _Optional[_Union[MachineCheck, _Mapping]] = ...) -> None: ...

class ExecuteRequest(_message.Message):
    __slots__ = ("session", "commands")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    session: Session
    commands: _containers.RepeatedCompositeFieldContainer[NumberedCommand]
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., commands: _Optional[_Iterable[_Union[NumberedCommand, _Mapping]]] = ...) -> None: ...

class ExecuteResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[NumberedOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[NumberedOutcome, _Mapping]]] = ...) -> None: ...

class SubscribeFaultsRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class SubscribeFaultsResponse(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedCompositeFieldContainer[DiscardFault]
    def __init__(self, faults: _Optional[_Iterable[_Union[DiscardFault, _Mapping]]] = ...) -> None: ...

class AcknowledgeFaultsRequest(_message.Message):
    __slots__ = ("session", "numbers")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    session: Session
    numbers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., numbers: _Optional[_Iterable[int]] = ...) -> None: ...

class AcknowledgeFaultsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloseGuestRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class CloseGuestResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("incarnation", "version", "policy", "frame_count", "free_frame_count", "low_watermark", "high_watermark", "slot_count", "free_slot_count", "paging_overcommitted", "parked_count", "guest_count", "page_count", "counters", "retired_slot_count", "stuck", "withheld_frame_count", "withheld_slot_count")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    FRAME_COUNT_FIELD_NUMBER: _ClassVar[int]
    FREE_FRAME_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOW_WATERMARK_FIELD_NUMBER: _ClassVar[int]
    HIGH_WATERMARK_FIELD_NUMBER: _ClassVar[int]
    SLOT_COUNT_FIELD_NUMBER: _ClassVar[int]
    FREE_SLOT_COUNT_FIELD_NUMBER: _ClassVar[int]
    PAGING_OVERCOMMITTED_FIELD_NUMBER: _ClassVar[int]
    PARKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    GUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    RETIRED_SLOT_COUNT_FIELD_NUMBER: _ClassVar[int]
    STUCK_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FRAME_COUNT_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_SLOT_COUNT_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    version: str
    policy: str
    frame_count: int
    free_frame_count: int
    low_watermark: int
    high_watermark: int
    slot_count: int
    free_slot_count: int
    paging_overcommitted: bool
    parked_count: int
    guest_count: int
    page_count: int
    counters: Counters
    retired_slot_count: int
    stuck: bool
    withheld_frame_count: int
    withheld_slot_count: int
    def __init__(self, incarnation: _Optional[int] = ..., version: _Optional[str] = ..., policy: _Optional[str] = ..., frame_count: _Optional[int] = ..., free_frame_count: _Optional[int] = ..., low_watermark: _Optional[int] = ..., high_watermark: _Optional[int] = ..., slot_count: _Optional[int] = ..., free_slot_count: _Optional[int] = ..., paging_overcommitted: bool = ..., parked_count: _Optional[int] = ..., guest_count: _Optional[int] = ..., page_count: _Optional[int] = ..., counters: _Optional[_Union[Counters, _Mapping]] = ..., retired_slot_count: _Optional[int] = ..., stuck: bool = ..., withheld_frame_count: _Optional[int] = ..., withheld_slot_count: _Optional[int] = ...) -> None: ...

class ListGuestsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListGuestsResponse(_message.Message):
    __slots__ = ("guests",)
    GUESTS_FIELD_NUMBER: _ClassVar[int]
    guests: _containers.RepeatedCompositeFieldContainer[Guest]
    def __init__(self, guests: _Optional[_Iterable[_Union[Guest, _Mapping]]] = ...) -> None: ...

class GetGuestRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetGuestResponse(_message.Message):
    __slots__ = ("guest",)
    GUEST_FIELD_NUMBER: _ClassVar[int]
    guest: Guest
    def __init__(self, guest: _Optional[_Union[Guest, _Mapping]] = ...) -> None: ...

class GetPageMapRequest(_message.Message):
    __slots__ = ("name", "first_pfn", "page_count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FIRST_PFN_FIELD_NUMBER: _ClassVar[int]
    PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    first_pfn: int
    page_count: int
    def __init__(self, name: _Optional[str] = ..., first_pfn: _Optional[int] = ..., page_count: _Optional[int] = ...) -> None: ...

class GetPageMapResponse(_message.Message):
    __slots__ = ("first_pfn", "states", "guest_page_count")
    FIRST_PFN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    GUEST_PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    first_pfn: int
    states: bytes
    guest_page_count: int
    def __init__(self, first_pfn: _Optional[int] = ..., states: _Optional[bytes] = ..., guest_page_count: _Optional[int] = ...) -> None: ...

class EvictPagesRequest(_message.Message):
    __slots__ = ("name", "ranges")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    ranges: _containers.RepeatedCompositeFieldContainer[PageRange]
    def __init__(self, name: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[PageRange, _Mapping]]] = ...) -> None: ...

class EvictPagesResponse(_message.Message):
    __slots__ = ("discarded_count", "page_out_count", "skipped_count")
    DISCARDED_COUNT_FIELD_NUMBER: _ClassVar[int]
    PAGE_OUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_COUNT_FIELD_NUMBER: _ClassVar[int]
    discarded_count: int
    page_out_count: int
    skipped_count: int
    def __init__(self, discarded_count: _Optional[int] = ..., page_out_count: _Optional[int] = ..., skipped_count: _Optional[int] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("guests", "kinds")
    GUESTS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    guests: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[EventKind]
    def __init__(self, guests: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[_Union[EventKind, str]]] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class InjectFaultRequest(_message.Message):
    __slots__ = ("fault",)
    FAULT_FIELD_NUMBER: _ClassVar[int]
    fault: FaultSpec
    def __init__(self, fault: _Optional[_Union[FaultSpec, _Mapping]] = ...) -> None: ...

class InjectFaultResponse(_message.Message):
    __slots__ = ("fault_id",)
    FAULT_ID_FIELD_NUMBER: _ClassVar[int]
    fault_id: int
    def __init__(self, fault_id: _Optional[int] = ...) -> None: ...

class ListFaultsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFaultsResponse(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedCompositeFieldContainer[Fault]
    def __init__(self, faults: _Optional[_Iterable[_Union[Fault, _Mapping]]] = ...) -> None: ...

class StopFaultRequest(_message.Message):
    __slots__ = ("fault_id",)
    FAULT_ID_FIELD_NUMBER: _ClassVar[int]
    fault_id: int
    def __init__(self, fault_id: _Optional[int] = ...) -> None: ...

class StopFaultResponse(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedCompositeFieldContainer[Fault]
    def __init__(self, faults: _Optional[_Iterable[_Union[Fault, _Mapping]]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("token", "incarnation")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    incarnation: int
    def __init__(self, token: _Optional[bytes] = ..., incarnation: _Optional[int] = ...) -> None: ...

class PageRange(_message.Message):
    __slots__ = ("first_pfn", "page_count")
    FIRST_PFN_FIELD_NUMBER: _ClassVar[int]
    PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    first_pfn: int
    page_count: int
    def __init__(self, first_pfn: _Optional[int] = ..., page_count: _Optional[int] = ...) -> None: ...

class NumberedCommand(_message.Message):
    __slots__ = ("vcpu", "number", "essa", "essa_array", "load", "store", "device_load", "device_store", "iske", "sske", "rrbe")
    VCPU_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ESSA_FIELD_NUMBER: _ClassVar[int]
    ESSA_ARRAY_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_LOAD_FIELD_NUMBER: _ClassVar[int]
    DEVICE_STORE_FIELD_NUMBER: _ClassVar[int]
    ISKE_FIELD_NUMBER: _ClassVar[int]
    SSKE_FIELD_NUMBER: _ClassVar[int]
    RRBE_FIELD_NUMBER: _ClassVar[int]
    vcpu: int
    number: int
    essa: Essa
    essa_array: EssaArray
    load: Load
    store: Store
    device_load: Load
    device_store: Store
    iske: Iske
    sske: Sske
    rrbe: Rrbe
    def __init__(self, vcpu: _Optional[int] = ..., number: _Optional[int] = ..., essa: _Optional[_Union[Essa, _Mapping]] = ..., essa_array: _Optional[_Union[EssaArray, _Mapping]] = ..., load: _Optional[_Union[Load, _Mapping]] = ..., store: _Optional[_Union[Store, _Mapping]] = ..., device_load: _Optional[_Union[Load, _Mapping]] = ..., device_store: _Optional[_Union[Store, _Mapping]] = ..., iske: _Optional[_Union[Iske, _Mapping]] = ..., sske: _Optional[_Union[Sske, _Mapping]] = ..., rrbe: _Optional[_Union[Rrbe, _Mapping]] = ...) -> None: ...

class NumberedOutcome(_message.Message):
    __slots__ = ("vcpu", "number", "essa_state", "essa_array_states", "loaded", "done", "key", "program_interruption_code", "fault_number", "io_error", "machine_check", "host_step")
    VCPU_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ESSA_STATE_FIELD_NUMBER: _ClassVar[int]
    ESSA_ARRAY_STATES_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_INTERRUPTION_CODE_FIELD_NUMBER: _ClassVar[int]
    FAULT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    IO_ERROR_FIELD_NUMBER: _ClassVar[int]
    MACHINE_CHECK_FIELD_NUMBER: _ClassVar[int]
    HOST_STEP_FIELD_NUMBER: _ClassVar[int]
    vcpu: int
    number: int
    essa_state: int
    essa_array_states: bytes
    loaded: LoadedData
    done: Done
    key: int
    program_interruption_code: int
    fault_number: int
    io_error: IoError
    machine_check: MachineCheck
    host_step: int
    def __init__(self, vcpu: _Optional[int] = ..., number: _Optional[int] = ..., essa_state: _Optional[int] = ..., essa_array_states: _Optional[bytes] = ..., loaded: _Optional[_Union[LoadedData, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., key: _Optional[int] = ..., program_interruption_code: _Optional[int] = ..., fault_number: _Optional[int] = ..., io_error: _Optional[_Union[IoError, _Mapping]] = ..., machine_check: _Optional[_Union[MachineCheck, _Mapping]] = ..., host_step: _Optional[int] = ...) -> None: ...

class Essa(_message.Message):
    __slots__ = ("orc", "pfn", "problem_state")
    ORC_FIELD_NUMBER: _ClassVar[int]
    PFN_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_STATE_FIELD_NUMBER: _ClassVar[int]
    orc: int
    pfn: int
    problem_state: bool
    def __init__(self, orc: _Optional[int] = ..., pfn: _Optional[int] = ..., problem_state: bool = ...) -> None: ...

class EssaArray(_message.Message):
    __slots__ = ("orcs", "pfns", "problem_state")
    ORCS_FIELD_NUMBER: _ClassVar[int]
    PFNS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_STATE_FIELD_NUMBER: _ClassVar[int]
    orcs: bytes
    pfns: bytes
    problem_state: bool
    def __init__(self, orcs: _Optional[bytes] = ..., pfns: _Optional[bytes] = ..., problem_state: bool = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("pfn", "offset", "length")
    PFN_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    pfn: int
    offset: int
    length: int
    def __init__(self, pfn: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Store(_message.Message):
    __slots__ = ("pfn", "offset", "data", "repeat")
    PFN_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    REPEAT_FIELD_NUMBER: _ClassVar[int]
    pfn: int
    offset: int
    data: bytes
    repeat: int
    def __init__(self, pfn: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., repeat: _Optional[int] = ...) -> None: ...

class Iske(_message.Message):
    __slots__ = ("pfn",)
    PFN_FIELD_NUMBER: _ClassVar[int]
    pfn: int
    def __init__(self, pfn: _Optional[int] = ...) -> None: ...

class Sske(_message.Message):
    __slots__ = ("pfn", "key")
    PFN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    pfn: int
    key: int
    def __init__(self, pfn: _Optional[int] = ..., key: _Optional[int] = ...) -> None: ...

class Rrbe(_message.Message):
    __slots__ = ("pfn",)
    PFN_FIELD_NUMBER: _ClassVar[int]
    pfn: int
    def __init__(self, pfn: _Optional[int] = ...) -> None: ...

class LoadedData(_message.Message):
    __slots__ = ("data", "repeat")
    DATA_FIELD_NUMBER: _ClassVar[int]
    REPEAT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    repeat: int
    def __init__(self, data: _Optional[bytes] = ..., repeat: _Optional[int] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class IoError(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MachineCheck(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DiscardFault(_message.Message):
    __slots__ = ("number", "vcpu", "address")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    VCPU_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    number: int
    vcpu: int
    address: int
    def __init__(self, number: _Optional[int] = ..., vcpu: _Optional[int] = ..., address: _Optional[int] = ...) -> None: ...

class Guest(_message.Message):
    __slots__ = ("guest_id", "name", "page_count", "vcpu_count", "device_count", "mode", "essa_enabled", "state_counts", "parked_count", "unacknowledged_fault_count", "subscribed", "stream_count", "counters", "release_entry_count")
    GUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    VCPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ESSA_ENABLED_FIELD_NUMBER: _ClassVar[int]
    STATE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    PARKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNACKNOWLEDGED_FAULT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    guest_id: int
    name: str
    page_count: int
    vcpu_count: int
    device_count: int
    mode: Mode
    essa_enabled: bool
    state_counts: _containers.RepeatedCompositeFieldContainer[StateCount]
    parked_count: int
    unacknowledged_fault_count: int
    subscribed: bool
    stream_count: int
    counters: Counters
    release_entry_count: int
    def __init__(self, guest_id: _Optional[int] = ..., name: _Optional[str] = ..., page_count: _Optional[int] = ..., vcpu_count: _Optional[int] = ..., device_count: _Optional[int] = ..., mode: _Optional[_Union[Mode, str]] = ..., essa_enabled: bool = ..., state_counts: _Optional[_Iterable[_Union[StateCount, _Mapping]]] = ..., parked_count: _Optional[int] = ..., unacknowledged_fault_count: _Optional[int] = ..., subscribed: bool = ..., stream_count: _Optional[int] = ..., counters: _Optional[_Union[Counters, _Mapping]] = ..., release_entry_count: _Optional[int] = ...) -> None: ...

class StateCount(_message.Message):
    __slots__ = ("state", "page_count")
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    state: int
    page_count: int
    def __init__(self, state: _Optional[int] = ..., page_count: _Optional[int] = ...) -> None: ...

class Counters(_message.Message):
    __slots__ = ("page_in_count", "page_out_count", "unused_discard_count", "volatile_discard_count", "potential_volatile_discard_count", "discard_fault_count", "essa_counts", "released_count", "machine_check_count", "io_error_count")
    PAGE_IN_COUNT_FIELD_NUMBER: _ClassVar[int]
    PAGE_OUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNUSED_DISCARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    VOLATILE_DISCARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    POTENTIAL_VOLATILE_DISCARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FAULT_COUNT_FIELD_NUMBER: _ClassVar[int]
    ESSA_COUNTS_FIELD_NUMBER: _ClassVar[int]
    RELEASED_COUNT_FIELD_NUMBER: _ClassVar[int]
    MACHINE_CHECK_COUNT_FIELD_NUMBER: _ClassVar[int]
    IO_ERROR_COUNT_FIELD_NUMBER: _ClassVar[int]
    page_in_count: int
    page_out_count: int
    unused_discard_count: int
    volatile_discard_count: int
    potential_volatile_discard_count: int
    discard_fault_count: int
    essa_counts: _containers.RepeatedScalarFieldContainer[int]
    released_count: int
    machine_check_count: int
    io_error_count: int
    def __init__(self, page_in_count: _Optional[int] = ..., page_out_count: _Optional[int] = ..., unused_discard_count: _Optional[int] = ..., volatile_discard_count: _Optional[int] = ..., potential_volatile_discard_count: _Optional[int] = ..., discard_fault_count: _Optional[int] = ..., essa_counts: _Optional[_Iterable[int]] = ..., released_count: _Optional[int] = ..., machine_check_count: _Optional[int] = ..., io_error_count: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("event_time", "kind", "guest", "pfn", "vcpu", "fault_number", "before_state", "after_state", "missed_count", "fault_id", "fault_kind")
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    GUEST_FIELD_NUMBER: _ClassVar[int]
    PFN_FIELD_NUMBER: _ClassVar[int]
    VCPU_FIELD_NUMBER: _ClassVar[int]
    FAULT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_STATE_FIELD_NUMBER: _ClassVar[int]
    AFTER_STATE_FIELD_NUMBER: _ClassVar[int]
    MISSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAULT_ID_FIELD_NUMBER: _ClassVar[int]
    FAULT_KIND_FIELD_NUMBER: _ClassVar[int]
    event_time: _timestamp_pb2.Timestamp
    kind: EventKind
    guest: str
    pfn: int
    vcpu: int
    fault_number: int
    before_state: int
    after_state: int
    missed_count: int
    fault_id: int
    fault_kind: FaultKind
    def __init__(self, event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[_Union[EventKind, str]] = ..., guest: _Optional[str] = ..., pfn: _Optional[int] = ..., vcpu: _Optional[int] = ..., fault_number: _Optional[int] = ..., before_state: _Optional[int] = ..., after_state: _Optional[int] = ..., missed_count: _Optional[int] = ..., fault_id: _Optional[int] = ..., fault_kind: _Optional[_Union[FaultKind, str]] = ...) -> None: ...

class FaultSpec(_message.Message):
    __slots__ = ("kind", "guests", "methods", "vcpus", "orcs", "pages", "states", "operations", "side", "nth", "count", "odds", "seed", "for_seconds", "delay_seconds", "rate", "frames", "percent")
    KIND_FIELD_NUMBER: _ClassVar[int]
    GUESTS_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    ORCS_FIELD_NUMBER: _ClassVar[int]
    PAGES_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    NTH_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ODDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FOR_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DELAY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    kind: FaultKind
    guests: _containers.RepeatedScalarFieldContainer[str]
    methods: _containers.RepeatedScalarFieldContainer[str]
    vcpus: _containers.RepeatedScalarFieldContainer[int]
    orcs: _containers.RepeatedScalarFieldContainer[int]
    pages: _containers.RepeatedCompositeFieldContainer[PageRange]
    states: _containers.RepeatedScalarFieldContainer[str]
    operations: _containers.RepeatedScalarFieldContainer[str]
    side: str
    nth: int
    count: int
    odds: float
    seed: int
    for_seconds: float
    delay_seconds: float
    rate: float
    frames: int
    percent: int
    def __init__(self, kind: _Optional[_Union[FaultKind, str]] = ..., guests: _Optional[_Iterable[str]] = ..., methods: _Optional[_Iterable[str]] = ..., vcpus: _Optional[_Iterable[int]] = ..., orcs: _Optional[_Iterable[int]] = ..., pages: _Optional[_Iterable[_Union[PageRange, _Mapping]]] = ..., states: _Optional[_Iterable[str]] = ..., operations: _Optional[_Iterable[str]] = ..., side: _Optional[str] = ..., nth: _Optional[int] = ..., count: _Optional[int] = ..., odds: _Optional[float] = ..., seed: _Optional[int] = ..., for_seconds: _Optional[float] = ..., delay_seconds: _Optional[float] = ..., rate: _Optional[float] = ..., frames: _Optional[int] = ..., percent: _Optional[int] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("fault_id", "fault", "matched_count", "struck_count", "active", "age_seconds")
    FAULT_ID_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    MATCHED_COUNT_FIELD_NUMBER: _ClassVar[int]
    STRUCK_COUNT_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    fault_id: int
    fault: FaultSpec
    matched_count: int
    struck_count: int
    active: bool
    age_seconds: float
    def __init__(self, fault_id: _Optional[int] = ..., fault: _Optional[_Union[FaultSpec, _Mapping]] = ..., matched_count: _Optional[int] = ..., struck_count: _Optional[int] = ..., active: bool = ..., age_seconds: _Optional[float] = ...) -> None: ...
