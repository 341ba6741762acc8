"""Wire message <-> command and outcome; nothing else knows how the wire spells them.

Rules:
- Decoding validates: what comes out has passed its `check()`. A message that is malformed
  anywhere raises InvalidRequestError, before anything of it is executed.
- Arrays are moved as whole buffers, never element by element.
- Encoding splits a batch into messages that stay far below MESSAGE_BYTES_MAX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from shared.arch import PAGE_SIZE
from shared.commands import (
    DONE,
    Command,
    DeviceLoad,
    DeviceStore,
    DiscardFault,
    Done,
    Essa,
    EssaArray,
    EssaArrayOutcome,
    EssaOutcome,
    FaultPending,
    IoError,
    Iske,
    KeyOutcome,
    Load,
    LoadOutcome,
    MachineCheck,
    Outcome,
    ProgramInterruption,
    Rrbe,
    Sske,
    Store,
)
from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb

Numbered = tuple[int, int, Command]
"""Issuer, number, command."""
Answered = tuple[int, int, Outcome]
"""Issuer, number, outcome."""

ENVELOPE_COMMANDS_MAX: Final = 65_536
ENVELOPE_BYTES: Final = 1 << 20
"""Payload after which the next command or outcome begins a new message. The largest single
one, an array of ESSAs, is 320 KiB."""

_ITEM_BYTES: Final = 32
"""What a command or outcome without payload may take on the wire, rounded up."""


# Decoding commands


def _essa(message: pb.Essa) -> Essa:
    return Essa(message.orc, message.pfn, message.problem_state)


def _essa_array(message: pb.EssaArray) -> EssaArray:
    return EssaArray(message.orcs, message.pfns, message.problem_state)


def _load(message: pb.Load) -> Load:
    return Load(message.pfn, message.offset, message.length)


def _device_load(message: pb.Load) -> DeviceLoad:
    return DeviceLoad(message.pfn, message.offset, message.length)


def _repeat(message: pb.Store | pb.LoadedData) -> int:
    return message.repeat if message.HasField("repeat") else 1


def _store(message: pb.Store) -> Store:
    return Store(message.pfn, message.offset, message.data, _repeat(message))


def _device_store(message: pb.Store) -> DeviceStore:
    return DeviceStore(message.pfn, message.offset, message.data, _repeat(message))


_COMMAND_DECODERS: Final[dict[str, Callable[[Any], Command]]] = {
    "essa": _essa,
    "essa_array": _essa_array,
    "load": _load,
    "store": _store,
    "device_load": _device_load,
    "device_store": _device_store,
    "iske": lambda message: Iske(message.pfn),
    "sske": lambda message: Sske(message.pfn, message.key),
    "rrbe": lambda message: Rrbe(message.pfn),
}


def essa_from_message(message: pb.Essa) -> Essa:
    """Decode and check one ESSA."""
    command = _essa(message)
    command.check()
    return command


def command_from_message(message: pb.NumberedCommand) -> Command:
    """Decode and check the command of one NumberedCommand."""
    name = message.WhichOneof("command")
    if name is None:
        raise InvalidRequestError("command is missing", field="command")
    command = _COMMAND_DECODERS[name](getattr(message, name))
    command.check()
    return command


def commands_from_message(message: pb.ExecuteRequest) -> list[Numbered]:
    """Decode and check a whole envelope, or raise InvalidRequestError."""
    commands = message.commands
    if len(commands) > ENVELOPE_COMMANDS_MAX:
        raise InvalidRequestError(
            f"commands holds {len(commands)}; it must hold at most {ENVELOPE_COMMANDS_MAX}",
            field="commands",
            value=len(commands),
            high=ENVELOPE_COMMANDS_MAX,
        )
    return [(item.vcpu, item.number, command_from_message(item)) for item in commands]


# Encoding commands. Every encoder returns the number of payload bytes it put in.


def _put_essa(target: pb.Essa, command: Essa) -> int:
    target.orc = command.orc
    target.pfn = command.pfn
    if command.problem_state:
        target.problem_state = True
    target.SetInParent()  # op 0 on page 0 is all defaults, and present all the same
    return 0


def _put_essa_array(target: pb.EssaArray, command: EssaArray) -> int:
    target.orcs = command.orc_bytes
    target.pfns = command.pfn_bytes
    target.problem_state = command.problem_state
    return len(command.orc_bytes) + len(command.pfn_bytes)


def _put_load(target: pb.Load, command: Load) -> int:
    target.pfn = command.pfn
    target.offset = command.offset
    target.length = command.length
    return 0


def _put_store(target: pb.Store, command: Store) -> int:
    target.pfn = command.pfn
    target.offset = command.offset
    target.data = command.data
    if command.repeat != 1:
        target.repeat = command.repeat
    return len(command.data)


def _put_pfn(target: pb.Iske | pb.Rrbe, command: Iske) -> int:
    target.pfn = command.pfn
    target.SetInParent()
    return 0


def _put_sske(target: pb.Sske, command: Sske) -> int:
    target.pfn = command.pfn
    target.key = command.key
    target.SetInParent()
    return 0


_COMMAND_ENCODERS: Final[dict[type, tuple[str, Callable[[Any, Any], int]]]] = {
    Essa: ("essa", _put_essa),
    EssaArray: ("essa_array", _put_essa_array),
    Load: ("load", _put_load),
    Store: ("store", _put_store),
    DeviceLoad: ("device_load", _put_load),
    DeviceStore: ("device_store", _put_store),
    Iske: ("iske", _put_pfn),
    Sske: ("sske", _put_sske),
    Rrbe: ("rrbe", _put_pfn),
}


def put_command(target: pb.NumberedCommand, command: Command) -> int:
    """Fill in the command; returns its payload in bytes."""
    name, put = _COMMAND_ENCODERS[type(command)]
    return put(getattr(target, name), command)


def messages_from_commands(batch: Iterable[Numbered]) -> list[pb.ExecuteRequest]:
    """Encode a batch, in order, into as few messages as the bounds allow."""
    message = pb.ExecuteRequest()
    messages = [message]
    size = count = 0
    for vcpu, number, command in batch:
        if size > ENVELOPE_BYTES or count == ENVELOPE_COMMANDS_MAX:
            message = pb.ExecuteRequest()
            messages.append(message)
            size = count = 0
        item = message.commands.add()
        item.vcpu = vcpu
        item.number = number
        size += _ITEM_BYTES + put_command(item, command)
        count += 1
    return messages if count else []


# Outcomes

_ESSA_OUTCOMES: Final = tuple(EssaOutcome(state) for state in range(256))
_IO_ERROR: Final = IoError()
_MACHINE_CHECK: Final = MachineCheck()


def _essa_outcome(state: int) -> EssaOutcome:
    return _ESSA_OUTCOMES[state] if state < len(_ESSA_OUTCOMES) else EssaOutcome(state)


def _load_outcome(message: pb.LoadedData) -> LoadOutcome:
    data, repeat = message.data, _repeat(message)
    if not 1 <= len(data) * repeat <= PAGE_SIZE:
        raise InvalidRequestError(
            f"loaded holds {len(data)} bytes {repeat} times; it must hold 1 to {PAGE_SIZE}",
            field="loaded",
            value=len(data) * repeat,
        )
    return LoadOutcome(data, repeat)


_OUTCOME_DECODERS: Final[dict[str, Callable[[Any], Outcome]]] = {
    "essa_state": _essa_outcome,
    "essa_array_states": EssaArrayOutcome,
    "loaded": _load_outcome,
    "done": lambda _: DONE,
    "key": KeyOutcome,
    "program_interruption_code": ProgramInterruption,
    "fault_number": FaultPending,
    "io_error": lambda _: _IO_ERROR,
    "machine_check": lambda _: _MACHINE_CHECK,
}


def outcome_from_message(message: pb.NumberedOutcome | pb.ExecuteEssaResponse) -> Outcome:
    """Decode one outcome; one without any is malformed."""
    name = message.WhichOneof("outcome")
    if name is None:
        raise InvalidRequestError("outcome is missing", field="outcome")
    return _OUTCOME_DECODERS[name](getattr(message, name))


def outcomes_from_message(message: pb.ExecuteResponse) -> list[Answered]:
    """Decode a whole envelope of outcomes."""
    return [(item.vcpu, item.number, outcome_from_message(item)) for item in message.outcomes]


def _put_essa_state(target: pb.NumberedOutcome, outcome: EssaOutcome) -> int:
    target.essa_state = outcome.state
    return 0


def _put_array_states(target: pb.NumberedOutcome, outcome: EssaArrayOutcome) -> int:
    target.essa_array_states = outcome.states
    return len(outcome.states)


def _put_loaded(target: pb.NumberedOutcome, outcome: LoadOutcome) -> int:
    loaded = target.loaded
    loaded.data = outcome.data
    if outcome.repeat != 1:
        loaded.repeat = outcome.repeat
    return len(outcome.data)


def _put_done(target: pb.NumberedOutcome, outcome: Done) -> int:
    target.done.SetInParent()
    return 0


def _put_key(target: pb.NumberedOutcome, outcome: KeyOutcome) -> int:
    target.key = outcome.key
    return 0


def _put_interruption(target: pb.NumberedOutcome, outcome: ProgramInterruption) -> int:
    target.program_interruption_code = outcome.code
    return 0


def _put_fault_pending(target: pb.NumberedOutcome, outcome: FaultPending) -> int:
    target.fault_number = outcome.fault
    return 0


def _put_io_error(target: pb.NumberedOutcome, outcome: IoError) -> int:
    target.io_error.SetInParent()
    return 0


def _put_machine_check(target: pb.NumberedOutcome, outcome: MachineCheck) -> int:
    target.machine_check.SetInParent()
    return 0


_OUTCOME_ENCODERS: Final[dict[type, Callable[[Any, Any], int]]] = {
    EssaOutcome: _put_essa_state,
    EssaArrayOutcome: _put_array_states,
    LoadOutcome: _put_loaded,
    Done: _put_done,
    KeyOutcome: _put_key,
    ProgramInterruption: _put_interruption,
    FaultPending: _put_fault_pending,
    IoError: _put_io_error,
    MachineCheck: _put_machine_check,
}


def put_outcome(target: pb.NumberedOutcome, outcome: Outcome) -> int:
    """Fill in the outcome; returns its payload in bytes."""
    return _OUTCOME_ENCODERS[type(outcome)](target, outcome)


def messages_from_outcomes(batch: Sequence[Answered]) -> list[pb.ExecuteResponse]:
    """Encode outcomes, in order, into as few messages as the bounds allow."""
    message = pb.ExecuteResponse()
    messages = [message]
    size = 0
    for vcpu, number, outcome in batch:
        if size > ENVELOPE_BYTES:
            message = pb.ExecuteResponse()
            messages.append(message)
            size = 0
        item = message.outcomes.add()
        item.vcpu = vcpu
        item.number = number
        size += _ITEM_BYTES + put_outcome(item, outcome)
    return messages if size else []


_ESSA_RESPONSES: Final = tuple(pb.ExecuteEssaResponse(essa_state=state) for state in range(32))


def essa_response_from_outcome(outcome: Outcome) -> pb.ExecuteEssaResponse:
    """Encode what a single ESSA may end in. The message may be shared: only send it."""
    match outcome:
        case EssaOutcome(state):
            return _ESSA_RESPONSES[state]
        case ProgramInterruption(code):
            return pb.ExecuteEssaResponse(program_interruption_code=code)
        case MachineCheck():
            return pb.ExecuteEssaResponse(machine_check=pb.MachineCheck())
        case _:
            raise AssertionError(f"an ESSA ended in {outcome}")


# Discard faults


def faults_from_message(message: pb.SubscribeFaultsResponse) -> list[DiscardFault]:
    """Decode an envelope of faults."""
    return [DiscardFault(item.number, item.vcpu, item.address) for item in message.faults]


def message_from_faults(faults: Iterable[DiscardFault]) -> pb.SubscribeFaultsResponse:
    """Encode an envelope of faults."""
    message = pb.SubscribeFaultsResponse()
    for fault in faults:
        message.faults.add(number=fault.number, vcpu=fault.vcpu, address=fault.address)
    return message
