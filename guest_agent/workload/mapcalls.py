"""What the system calls on mappings mean for a recording.

Rules:
- A mapping's pages are those inside its file when it is made; what lies beyond cannot be used.
- Whatever a call lays over older mappings takes their pages out first.
"""

from __future__ import annotations

from typing import Final

from guest_agent.workload.events import EventKind
from guest_agent.workload.filelog import FileState, Row
from guest_agent.workload.recording import Handler, Recording, Task
from guest_agent.workload.strace_text import Call, integer


def _map(recording: Recording, task: Task, call: Call) -> None:
    """Mmap: what lay at these addresses goes; a file's pages come."""
    length = integer(call.arguments[1])
    assert call.result is not None
    if length is None:
        return
    _unmapped(recording, task, call.result, call.result + length)
    opened = None
    if "MAP_ANONYMOUS" not in call.arguments[3]:
        opened = recording.opened(task, call.arguments[4])
    # A mapping without any access only reserves addresses.
    if opened is not None and call.arguments[2] != "PROT_NONE":
        shared = "MAP_SHARED" in call.arguments[3]
        _map_file(
            recording,
            task,
            (call.result, call.result + length),
            opened.file,
            integer(call.arguments[5]) or 0,
            writable=shared and "PROT_WRITE" in call.arguments[2],
        )


def _map_file(
    recording: Recording,
    task: Task,
    addresses: tuple[int, int],
    file: FileState,
    offset: int,
    *,
    writable: bool,
) -> None:
    length = min(addresses[1] - addresses[0], recording.log.size_now(file) - offset)
    if length <= 0:
        return
    number = recording.area_count
    recording.area_count += 1
    task.space.map(addresses, file, offset, number, writable=writable)
    kind = EventKind.MAP_SHARED if writable else EventKind.MAP
    recording.log.add(Row(kind, task.process, file, offset, length, number))


def _unmapped(recording: Recording, task: Task, start: int, end: int) -> None:
    for part in task.space.unmap(start, end):
        recording.log.add(
            Row(EventKind.UNMAP, task.process, part.file, part.offset, part.length, part.number)
        )


def _unmap(recording: Recording, task: Task, call: Call) -> None:
    """Munmap."""
    start, length = integer(call.arguments[0]), integer(call.arguments[1])
    if start is not None and length is not None:
        _unmapped(recording, task, start, start + length)


def _remap(recording: Recording, task: Task, call: Call) -> None:
    """Mremap: pages move without a touch; those that are new are mapped."""
    old, old_length, new_length = (integer(argument) for argument in call.arguments[:3])
    assert call.result is not None
    if old is None or old_length is None or new_length is None:
        return
    _unmapped(recording, task, old + new_length, old + old_length)
    if call.result != old:
        _unmapped(recording, task, call.result, call.result + new_length)
        task.space.move(old, old + old_length, call.result)
    end = call.result + old_length
    before = task.space.ending_at(end)
    if new_length > old_length and before is not None:
        addresses = (end, call.result + new_length)
        offset = before.offset + before.length
        _map_file(recording, task, addresses, before.file, offset, writable=before.writable)


def _synchronise_map(recording: Recording, task: Task, call: Call) -> None:
    """Msync: what of the range can have been changed through it."""
    start, length = integer(call.arguments[0]), integer(call.arguments[1])
    if start is None or length is None:
        return
    for part in task.space.overlaps(start, start + length):
        if part.writable:
            recording.log.add(
                Row(
                    EventKind.MSYNC,
                    task.process,
                    part.file,
                    part.offset,
                    part.length,
                    part.number,
                )
            )


HANDLERS: Final[dict[str, Handler]] = {
    "mmap": _map,
    "munmap": _unmap,
    "mremap": _remap,
    "msync": _synchronise_map,
}
