"""The machine as plain data, and back, exactly.

Rules:
- Integers, bytes, strings, lists, dictionaries and numpy arrays only, so that a shell can
  write it to a file with any codec.
- Orders that decide anything later (parked commands, pending stages, moves, faults) are
  kept as they are.
- Frames come without the content of free ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

import numpy as np

from host_daemon.core.config import Choices, GuestSpec, HostConfig, HostGuards
from host_daemon.core.effects import Stage, StageKind
from host_daemon.core.frames import FrameTable
from host_daemon.core.guest import Guest, Parked, Reclaim, Statistics, Transfer
from host_daemon.core.machine import Machine, make_machine
from host_daemon.core.tables import FrameKind
from shared.arch import PAGE_SHIFT, PAGE_SIZE, Mode
from shared.commands import Command, DeviceLoad, DeviceStore, DiscardFault, Essa, Load, Store

FORMAT: Final = 2
_PARKABLE: Final[Mapping[str, type[Command]]] = {
    kind.__name__: kind for kind in (Essa, Load, Store, DeviceLoad, DeviceStore)
}


def capture(machine: Machine) -> dict[str, Any]:
    """Everything but effects, which must have been taken."""
    assert not machine.effects, "effects were not taken"
    return {
        "format": FORMAT,
        "config": asdict(machine.config),
        "guests": [_guest_data(guest) for guest in machine.guests.values()],
        "frames": _frames_data(machine),
        "slots": machine.slots.snapshot(),
        "policy": machine.policy.snapshot(),
        "pending": [list(map(int, stage)) for stage in machine.pending],
        "operations": [_transfer_data(transfer) for transfer in machine.operations.values()],
        "parked": [
            [guest_id, issuer, parked.seen, *_command_data(parked.command)]
            for (guest_id, issuer), parked in machine.parked.items()
        ],
        "guest_count": machine.guest_count,
        "operation_count": machine.operation_count,
        "reserved": machine.reserved,
        "closed": asdict(machine.closed),
        "reclaiming": int(machine.reclaiming),
    }


def rebuild(data: Mapping[str, Any], choices: Choices) -> Machine:
    """The inverse of `capture`."""
    assert data["format"] == FORMAT, f"snapshot format {data['format']} is not {FORMAT}"
    config = dict(data["config"])
    config["guards"] = HostGuards(**config["guards"])
    machine = make_machine(HostConfig(**config), choices)
    _restore_frames(machine.frames, data["frames"])
    machine.slots.restore(data["slots"])
    machine.policy.restore(list(data["policy"]))
    machine.pending = {Stage(StageKind(k), g, n): None for k, g, n in data["pending"]}
    machine.operations = {row[0]: _transfer(row) for row in data["operations"]}
    for guest_data in data["guests"]:
        guest = _guest(guest_data, machine.operations)
        machine.guests[guest.number] = guest
    for guest_id, issuer, seen, name, values in data["parked"]:
        command = _PARKABLE[name](*values)
        machine.parked[guest_id, issuer] = Parked(command, seen)
    machine.guest_count = data["guest_count"]
    machine.operation_count = data["operation_count"]
    machine.reserved = data["reserved"]
    machine.closed = Statistics(**data["closed"])
    machine.reclaiming = bool(data["reclaiming"])
    return machine


def _guest_data(guest: Guest) -> dict[str, Any]:
    spec = asdict(guest.spec)
    spec["mode"] = str(guest.spec.mode)
    spec["unbacked"] = [[pfns.start, pfns.stop] for pfns in guest.spec.unbacked]
    return {
        "number": guest.number,
        "spec": spec,
        "states": guest.states_view.copy(),
        "keys": guest.keys_view.copy(),
        "location": guest.location_view.copy(),
        "moves": [_move_data(pfn, move) for pfn, move in guest.moves.items()],
        "releases": [entries.tobytes() for entries in guest.releases],
        "faults": [[f.number, f.vcpu, f.address] for f in guest.faults.values()],
        "fault_count": guest.fault_count,
        "delivered": guest.delivered,
        "statistics": asdict(guest.statistics),
    }


def _guest(data: Mapping[str, Any], operations: Mapping[int, Transfer]) -> Guest:
    spec = dict(data["spec"])
    spec["mode"] = Mode(spec["mode"])
    spec["unbacked"] = tuple(range(start, stop) for start, stop in spec["unbacked"])
    guest = Guest(data["number"], GuestSpec(**spec))
    guest.states_view[:] = data["states"]
    # Only what is not zero is written: untouched zeroes cost no memory.
    for view, saved in ((guest.keys_view, data["keys"]), (guest.location_view, data["location"])):
        used = np.flatnonzero(saved)
        view[used] = saved[used]
    for pfn, *move in data["moves"]:
        guest.moves[pfn] = operations[move[0]] if len(move) == 1 else _reclaim(move)
    for entries, saved in zip(guest.releases, data["releases"], strict=True):
        entries.frombytes(saved)
    guest.faults = {row[0]: DiscardFault(*row) for row in data["faults"]}
    guest.fault_count = data["fault_count"]
    guest.delivered = data["delivered"]
    guest.statistics = Statistics(**data["statistics"])
    return guest


def _move_data(pfn: int, move: Reclaim | Transfer) -> list[int]:
    if isinstance(move, Transfer):
        return [pfn, move.operation]
    changed = -1 if move.changed is None else int(move.changed)
    return [pfn, *map(int, move.stage), int(move.access_removed), changed]


def _reclaim(row: list[int]) -> Reclaim:
    kind, guest_id, pfn, access_removed, changed = row
    stage = Stage(StageKind(kind), guest_id, pfn)
    return Reclaim(stage, bool(access_removed), None if changed < 0 else bool(changed))


def _transfer_data(transfer: Transfer) -> list[int]:
    numbers = [transfer.operation, transfer.guest_id, transfer.pfn, transfer.slot]
    numbers += [transfer.generation, transfer.frame]
    return [*numbers, int(transfer.stage is not None), int(transfer.live)]


def _transfer(row: list[int]) -> Transfer:
    operation, guest_id, pfn, slot, generation, frame, waits, live = row
    kind = StageKind.SUBMIT_PAGE_IN if frame else StageKind.SUBMIT_PAGE_OUT
    stage = Stage(kind, guest_id, pfn) if waits else None
    return Transfer(operation, guest_id, pfn, slot, generation, frame, stage, bool(live))


def _command_data(command: Command) -> tuple[str, list[Any]]:
    values = [getattr(command, field.name) for field in fields(command)]
    return type(command).__name__, values


def _frames_data(machine: Machine) -> dict[str, Any]:
    frames = machine.frames
    used = np.flatnonzero(frames.kinds_view != FrameKind.FREE)
    pages = frames.memory_view.reshape(-1, PAGE_SIZE)
    return {
        "pool": frames.pool.snapshot(),
        "kinds": bytes(frames.kinds),
        "referenced": bytes(frames.referenced),
        "guest": frames.guest_view.copy(),
        "pfn": frames.pfn_view.copy(),
        "last_use": frames.last_use_view.copy(),
        "clock": frames.clock,
        "busy_count": frames.busy_count,
        "content": pages[used].tobytes(),
    }


def _restore_frames(frames: FrameTable, data: Mapping[str, Any]) -> None:
    frames.pool.restore(data["pool"])
    frames.kinds_view[:] = np.frombuffer(data["kinds"], dtype=np.uint8)
    frames.referenced[:] = data["referenced"]
    frames.guest_view[:] = data["guest"]
    frames.pfn_view[:] = data["pfn"]
    frames.last_use_view[:] = data["last_use"]
    frames.clock = data["clock"]
    frames.busy_count = data["busy_count"]
    used = np.flatnonzero(frames.kinds_view != FrameKind.FREE)
    content = np.frombuffer(data["content"], dtype=np.uint8).reshape(-1, PAGE_SIZE)
    frames.memory_view.reshape(-1, PAGE_SIZE)[used] = content
    assert frames.memory.nbytes == (frames.count + 1) << PAGE_SHIFT
