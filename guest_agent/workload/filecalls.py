"""What the system calls on files and descriptors mean for a recording.

Rules:
- Each function takes one call that succeeded; HANDLERS says which.
- Offsets, sizes and names follow the calls' results, not what the program asked for.
"""

from __future__ import annotations

import re
from typing import Final

from guest_agent.workload.events import EventKind
from guest_agent.workload.filelog import FileState, Row
from guest_agent.workload.recording import Description, Handler, Recording, Task, is_recorded
from guest_agent.workload.strace_text import Call, descriptor, integer


def _open(recording: Recording, task: Task, call: Call) -> None:
    """Open, openat, openat2 and creat."""
    at = 1 if call.name in ("openat", "openat2") else 0
    flags = "O_WRONLY|O_CREAT|O_TRUNC" if call.name == "creat" else call.arguments[at + 1]
    directory = call.arguments[0] if at else None
    path = call.result_path or recording.path(task, directory, call.arguments[at])
    assert call.result is not None
    task.descriptors.table.pop(call.result, None)
    words = set(re.findall(r"O_[A-Z]+", flags))
    if path is None or words & {"O_DIRECTORY", "O_PATH"} or not is_recorded(path):
        return
    path = path.removesuffix(" (deleted)")
    if "O_TMPFILE" in words:
        file = FileState(path, size=0, initial=0)
        recording.log.drop(task.process, file)
    elif {"O_CREAT", "O_EXCL"} <= words:
        file = recording.log.created(path)
    else:
        file = recording.log.file(path)
        if "O_TRUNC" in words and words & {"O_WRONLY", "O_RDWR"}:
            recording.log.truncate(task.process, file, 0)
    task.descriptors.table[call.result] = Description(file, append="O_APPEND" in words)


def _unlink(recording: Recording, task: Task, call: Call) -> None:
    """Unlink and unlinkat; directories hold no pages."""
    at = call.name == "unlinkat"
    if at and "AT_REMOVEDIR" in call.arguments[2]:
        return
    path = recording.path(task, call.arguments[0] if at else None, call.arguments[at])
    if path is not None:
        recording.log.unlink(task.process, path)


def _rename(recording: Recording, task: Task, call: Call) -> None:
    """Rename, renameat and renameat2."""
    arguments = call.arguments
    if call.name == "rename":
        old, new = (
            recording.path(task, None, arguments[0]),
            recording.path(task, None, arguments[1]),
        )
    else:
        old = recording.path(task, arguments[0], arguments[1])
        new = recording.path(task, arguments[2], arguments[3])
    if old is not None and new is not None:
        exchange = "RENAME_EXCHANGE" in arguments[-1]
        recording.log.rename(task.process, old, new, exchange=exchange)


def _change_directory(recording: Recording, task: Task, call: Call) -> None:
    """Chdir and fchdir."""
    if call.name == "fchdir":
        path = descriptor(call.arguments[0])[1]
    else:
        path = recording.path(task, None, call.arguments[0])
    if path is not None:
        task.cwd[0] = path


# Descriptors


def _close(recording: Recording, task: Task, call: Call) -> None:
    """Forget the descriptor."""
    task.descriptors.table.pop(descriptor(call.arguments[0])[0], None)


def _close_range(recording: Recording, task: Task, call: Call) -> None:
    """Forget a range of descriptors, or mark it for execve, which changes nothing here."""
    first, last = integer(call.arguments[0]), integer(call.arguments[1])
    if first is None or last is None or "CLOEXEC" in call.arguments[2]:
        return
    for number in [n for n in task.descriptors.table if first <= n <= last]:
        del task.descriptors.table[number]


def _duplicate(recording: Recording, task: Task, call: Call) -> None:
    """Dup, dup2 and dup3: both numbers name one description."""
    assert call.result is not None
    source = recording.opened(task, call.arguments[0])
    if source is not None:
        task.descriptors.table[call.result] = source
    elif descriptor(call.arguments[0])[0] != call.result:
        task.descriptors.table.pop(call.result, None)


def _control(recording: Recording, task: Task, call: Call) -> None:
    """Fcntl: duplicates, and O_APPEND switched on or off."""
    command = call.arguments[1]
    if command.startswith("F_DUPFD"):
        _duplicate(recording, task, call)
    elif command == "F_SETFL":
        opened = recording.opened(task, call.arguments[0])
        if opened is not None:
            opened.append = "O_APPEND" in call.arguments[2]


def _seek(recording: Recording, task: Task, call: Call) -> None:
    """Lseek: what it returns is the offset, and from the end it tells the size."""
    opened = recording.opened(task, call.arguments[0])
    assert call.result is not None
    if opened is None:
        return
    opened.offset = call.result
    back = integer(call.arguments[1])
    if call.arguments[2] == "SEEK_END" and back is not None:
        opened.file.learn_size(call.result - back)


def _status(recording: Recording, task: Task, call: Call) -> None:
    """Fstat, and newfstatat and statx of a descriptor: the kind and size of a file."""
    if not call.name.startswith("fstat") and "AT_EMPTY_PATH" not in " ".join(call.arguments):
        return
    text = " ".join(call.arguments)
    opened = recording.opened(task, call.arguments[0])
    size = re.search(r"stx?_size=(\d+)", text)
    if opened is None:
        return
    if "S_IFREG" not in text:
        opened.file.regular = False
    elif size is not None:
        opened.file.learn_size(int(size[1]))


# Data


def _transfer(recording: Recording, task: Task, call: Call) -> None:
    """Read, write and all their variants."""
    opened = recording.opened(task, call.arguments[0])
    assert call.result is not None
    if opened is None:
        return
    at = None
    if call.name.startswith("p"):
        at = integer(call.arguments[3])
        at = None if at == -1 else at  # preadv2 and pwritev2: the description's own offset
    if "write" in call.name:
        _write(recording, task, opened, call.result, at)
    else:
        _read(recording, task, opened, call.result, at)


def _read(
    recording: Recording, task: Task, opened: Description, length: int, at: int | None
) -> None:
    start = opened.offset if at is None else at
    if at is None:
        opened.offset += length
    if length:
        recording.log.add(Row(EventKind.READ, task.process, opened.file, start, length))


def _write(
    recording: Recording, task: Task, opened: Description, length: int, at: int | None
) -> None:
    if not length:
        return
    if opened.append:  # LINUX: O_APPEND wins over pwrite's offset too
        end = recording.log.append(task.process, opened.file, length)
        opened.offset = end if at is None else opened.offset
        return
    start = opened.offset if at is None else at
    if at is None:
        opened.offset += length
    recording.log.add(Row(EventKind.WRITE, task.process, opened.file, start, length))
    opened.file.grow(start + length)


def _copy(recording: Recording, task: Task, call: Call) -> None:
    """Sendfile, copy_file_range and splice: a read and a write, where they are files."""
    arguments = call.arguments
    if call.name == "sendfile":
        source, source_at, target, target_at = arguments[1], arguments[2], arguments[0], "NULL"
    else:
        source, source_at, target, target_at = arguments[:4]
    assert call.result is not None
    reader, writer = recording.opened(task, source), recording.opened(task, target)
    if reader is not None:
        _read(recording, task, reader, call.result, _pointed(source_at))
    if writer is not None:
        _write(recording, task, writer, call.result, _pointed(target_at))


def _synchronise(recording: Recording, task: Task, call: Call) -> None:
    """Fsync and fdatasync of a file, sync and syncfs of all."""
    if call.name in ("sync", "syncfs"):
        recording.log.add(Row(EventKind.SYNC, task.process, None))
        return
    opened = recording.opened(task, call.arguments[0])
    if opened is not None:
        recording.log.add(Row(EventKind.FSYNC, task.process, opened.file))


def _truncate(recording: Recording, task: Task, call: Call) -> None:
    """Truncate and ftruncate, and fallocate where it makes the file longer."""
    size = integer(call.arguments[-1])
    if call.name == "truncate":
        path = recording.path(task, None, call.arguments[0])
        file = None if path is None or not is_recorded(path) else recording.log.file(path)
    else:
        opened = recording.opened(task, call.arguments[0])
        file = None if opened is None else opened.file
    if file is None or size is None:
        return
    if call.name == "fallocate":
        size += integer(call.arguments[2]) or 0
        if call.arguments[1] != "0" or size <= recording.log.size_now(file):
            return
    recording.log.truncate(task.process, file, size)


def _pointed(argument: str) -> int | None:
    """Read an offset behind a pointer, `[0] => [4096]`; None for NULL."""
    match = re.match(r"\[(\d+)\]", argument)
    return None if match is None else int(match[1])


HANDLERS: Final[dict[str, Handler]] = {
    **dict.fromkeys(("open", "openat", "openat2", "creat"), _open),
    **dict.fromkeys(("unlink", "unlinkat"), _unlink),
    **dict.fromkeys(("rename", "renameat", "renameat2"), _rename),
    **dict.fromkeys(("chdir", "fchdir"), _change_directory),
    "close": _close,
    "close_range": _close_range,
    **dict.fromkeys(("dup", "dup2", "dup3"), _duplicate),
    **dict.fromkeys(("fcntl", "fcntl64"), _control),
    "lseek": _seek,
    **dict.fromkeys(("fstat", "fstat64", "newfstatat", "statx"), _status),
    **dict.fromkeys(("read", "readv", "pread64", "preadv", "preadv2"), _transfer),
    **dict.fromkeys(("write", "writev", "pwrite64", "pwritev", "pwritev2"), _transfer),
    **dict.fromkeys(("sendfile", "sendfile64", "copy_file_range", "splice"), _copy),
    **dict.fromkeys(("fsync", "fdatasync", "sync", "syncfs"), _synchronise),
    **dict.fromkeys(("truncate", "truncate64", "ftruncate", "ftruncate64"), _truncate),
    "fallocate": _truncate,
}
