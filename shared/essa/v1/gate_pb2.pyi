from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GateRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATE_ROLE_UNSPECIFIED: _ClassVar[GateRole]
    GATE_ROLE_HOST: _ClassVar[GateRole]
    GATE_ROLE_GUEST: _ClassVar[GateRole]

class HostReception(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOST_RECEPTION_UNSPECIFIED: _ClassVar[HostReception]
    HOST_RECEPTION_EXECUTED: _ClassVar[HostReception]
    HOST_RECEPTION_ATTACHED: _ClassVar[HostReception]
    HOST_RECEPTION_ANSWERED: _ClassVar[HostReception]
    HOST_RECEPTION_REFUSED: _ClassVar[HostReception]
GATE_ROLE_UNSPECIFIED: GateRole
GATE_ROLE_HOST: GateRole
GATE_ROLE_GUEST: GateRole
HOST_RECEPTION_UNSPECIFIED: HostReception
HOST_RECEPTION_EXECUTED: HostReception
HOST_RECEPTION_ATTACHED: HostReception
HOST_RECEPTION_ANSWERED: HostReception
HOST_RECEPTION_REFUSED: HostReception

class AttendRequest(_message.Message):
    __slots__ = ("arrival", "report", "order", "parked")
    ARRIVAL_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    arrival: Arrival
    report: Report
    order: HostOrder
    parked: Parked
    def __init__(self, arrival: _Optional[_Union[Arrival, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., order: _Optional[_Union[HostOrder, _Mapping]] = ..., parked: _Optional[_Union[Parked, _Mapping]] = ...) -> None: ...

class AttendResponse(_message.Message):
    __slots__ = ("begin", "release", "order", "told", "finish", "parked")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    TOLD_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    begin: RaceCase
    release: Step
    order: HostOrder
    told: Report
    finish: Finish
    parked: Parked
    def __init__(self, begin: _Optional[_Union[RaceCase, _Mapping]] = ..., release: _Optional[_Union[Step, _Mapping]] = ..., order: _Optional[_Union[HostOrder, _Mapping]] = ..., told: _Optional[_Union[Report, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ..., parked: _Optional[_Union[Parked, _Mapping]] = ...) -> None: ...

class Arrival(_message.Message):
    __slots__ = ("role", "process_id")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    role: GateRole
    process_id: int
    def __init__(self, role: _Optional[_Union[GateRole, str]] = ..., process_id: _Optional[int] = ...) -> None: ...

class RaceCase(_message.Message):
    __slots__ = ("scenario", "preset", "without", "dropped", "workload", "faults", "timeout_seconds")
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    scenario: str
    preset: str
    without: _containers.RepeatedScalarFieldContainer[str]
    dropped: _containers.RepeatedScalarFieldContainer[str]
    workload: str
    faults: str
    timeout_seconds: float
    def __init__(self, scenario: _Optional[str] = ..., preset: _Optional[str] = ..., without: _Optional[_Iterable[str]] = ..., dropped: _Optional[_Iterable[str]] = ..., workload: _Optional[str] = ..., faults: _Optional[str] = ..., timeout_seconds: _Optional[float] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("actor", "label", "enabled", "fails")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    FAILS_FIELD_NUMBER: _ClassVar[int]
    actor: str
    label: str
    enabled: bool
    fails: bool
    def __init__(self, actor: _Optional[str] = ..., label: _Optional[str] = ..., enabled: bool = ..., fails: bool = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("steps", "steps_before_host", "violations", "reached", "failure", "host")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEPS_BEFORE_HOST_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    steps_before_host: int
    violations: _containers.RepeatedScalarFieldContainer[str]
    reached: _containers.RepeatedScalarFieldContainer[str]
    failure: str
    host: HostState
    def __init__(self, steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., steps_before_host: _Optional[int] = ..., violations: _Optional[_Iterable[str]] = ..., reached: _Optional[_Iterable[str]] = ..., failure: _Optional[str] = ..., host: _Optional[_Union[HostState, _Mapping]] = ...) -> None: ...

class HostState(_message.Message):
    __slots__ = ("address", "traffic", "stages", "paging", "faults_open", "page_ins", "waiting_for_frame", "victim_possible", "reception")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    PAGING_FIELD_NUMBER: _ClassVar[int]
    FAULTS_OPEN_FIELD_NUMBER: _ClassVar[int]
    PAGE_INS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FRAME_FIELD_NUMBER: _ClassVar[int]
    VICTIM_POSSIBLE_FIELD_NUMBER: _ClassVar[int]
    RECEPTION_FIELD_NUMBER: _ClassVar[int]
    address: str
    traffic: Traffic
    stages: _containers.RepeatedCompositeFieldContainer[HostStage]
    paging: _containers.RepeatedCompositeFieldContainer[PagingOperation]
    faults_open: int
    page_ins: int
    waiting_for_frame: int
    victim_possible: bool
    reception: HostReception
    def __init__(self, address: _Optional[str] = ..., traffic: _Optional[_Union[Traffic, _Mapping]] = ..., stages: _Optional[_Iterable[_Union[HostStage, _Mapping]]] = ..., paging: _Optional[_Iterable[_Union[PagingOperation, _Mapping]]] = ..., faults_open: _Optional[int] = ..., page_ins: _Optional[int] = ..., waiting_for_frame: _Optional[int] = ..., victim_possible: bool = ..., reception: _Optional[_Union[HostReception, str]] = ...) -> None: ...

class Traffic(_message.Message):
    __slots__ = ("commands_received", "outcomes_sent", "faults_sent", "acknowledgements_received", "subscriptions")
    COMMANDS_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_SENT_FIELD_NUMBER: _ClassVar[int]
    FAULTS_SENT_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENTS_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    commands_received: int
    outcomes_sent: int
    faults_sent: int
    acknowledgements_received: int
    subscriptions: int
    def __init__(self, commands_received: _Optional[int] = ..., outcomes_sent: _Optional[int] = ..., faults_sent: _Optional[int] = ..., acknowledgements_received: _Optional[int] = ..., subscriptions: _Optional[int] = ...) -> None: ...

class HostStage(_message.Message):
    __slots__ = ("kind", "guest_id", "number")
    KIND_FIELD_NUMBER: _ClassVar[int]
    GUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    kind: int
    guest_id: int
    number: int
    def __init__(self, kind: _Optional[int] = ..., guest_id: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class PagingOperation(_message.Message):
    __slots__ = ("operation", "out")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    OUT_FIELD_NUMBER: _ClassVar[int]
    operation: int
    out: bool
    def __init__(self, operation: _Optional[int] = ..., out: bool = ...) -> None: ...

class HostOrder(_message.Message):
    __slots__ = ("new_host", "step", "evict_pfn", "look", "hold", "comes_in", "break_connections", "restart")
    NEW_HOST_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EVICT_PFN_FIELD_NUMBER: _ClassVar[int]
    LOOK_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    COMES_IN_FIELD_NUMBER: _ClassVar[int]
    BREAK_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    new_host: NewHost
    step: Step
    evict_pfn: int
    look: Traffic
    hold: HoldCommands
    comes_in: HeldCommand
    break_connections: BreakConnections
    restart: Restart
    def __init__(self, new_host: _Optional[_Union[NewHost, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., evict_pfn: _Optional[int] = ..., look: _Optional[_Union[Traffic, _Mapping]] = ..., hold: _Optional[_Union[HoldCommands, _Mapping]] = ..., comes_in: _Optional[_Union[HeldCommand, _Mapping]] = ..., break_connections: _Optional[_Union[BreakConnections, _Mapping]] = ..., restart: _Optional[_Union[Restart, _Mapping]] = ...) -> None: ...

class NewHost(_message.Message):
    __slots__ = ("frame_count", "slot_count", "without")
    FRAME_COUNT_FIELD_NUMBER: _ClassVar[int]
    SLOT_COUNT_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_FIELD_NUMBER: _ClassVar[int]
    frame_count: int
    slot_count: int
    without: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, frame_count: _Optional[int] = ..., slot_count: _Optional[int] = ..., without: _Optional[_Iterable[str]] = ...) -> None: ...

class HoldCommands(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HeldCommand(_message.Message):
    __slots__ = ("issuer", "number", "copy")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    COPY_FIELD_NUMBER: _ClassVar[int]
    issuer: int
    number: int
    copy: bool
    def __init__(self, issuer: _Optional[int] = ..., number: _Optional[int] = ..., copy: bool = ...) -> None: ...

class BreakConnections(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: bool
    def __init__(self, faults: bool = ...) -> None: ...

class Restart(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Finish(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Parked(_message.Message):
    __slots__ = ("issuer", "number", "assertion")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ASSERTION_FIELD_NUMBER: _ClassVar[int]
    issuer: int
    number: int
    assertion: str
    def __init__(self, issuer: _Optional[int] = ..., number: _Optional[int] = ..., assertion: _Optional[str] = ...) -> None: ...
