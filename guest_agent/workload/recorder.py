"""A program's file accesses out of strace's text: processes, and the run itself.

Rules:
- A child's calls are read when the call that made it has returned, so that the descriptors
  it inherits are known; strace may print some of them earlier.
- A call that failed has done nothing.

Not seen, and therefore not in a trace: loads and stores through mappings (events.map_touches
stands for them), io_uring and AIO, what the kernel itself maps at execve, mprotect.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guest_agent.workload import filecalls, mapcalls
from guest_agent.workload.addressspace import AddressSpace
from guest_agent.workload.events import EventKind, Trace, TraceError
from guest_agent.workload.filelog import NOT_REGULAR, FileLog, Probe, Row
from guest_agent.workload.recording import Description, Descriptors, Recording, Task
from guest_agent.workload.strace_text import Call, Ended, read_calls

_HANDLERS: Final = filecalls.HANDLERS | mapcalls.HANDLERS
_FORKS: Final = ("fork", "vfork", "clone", "clone3")
_EXECUTES: Final = ("execve", "execveat")

Inherited = dict[int, tuple[str, int, bool]]
"""By descriptor: path, offset and O_APPEND of regular files open at the start."""


class Recorder:
    """Reads calls in order and fills the log."""

    def __init__(self, probe: Probe, cwd: str, inherited: Inherited | None = None) -> None:
        self._recording = Recording(FileLog(probe))
        self._log = self._recording.log
        self._cwd = cwd
        self._inherited = inherited or {}
        self._tasks: dict[int, Task] = {}
        self._early: dict[int, list[Call | Ended]] = {}
        """Calls of children whose making has not returned yet."""
        self._process_count = 0

    def read(self, lines: Iterable[str]) -> None:
        """Take strace's text."""
        for item in read_calls(lines):
            self._take(item)

    @property
    def lost_count(self) -> int:
        """Count the calls of processes whose making strace did not show; they are left out."""
        return sum(isinstance(item, Call) for items in self._early.values() for item in items)

    def finish(self, name: Callable[[str, int], str], origin: str) -> Trace:
        """Return the trace of what was read. `name` makes a file's name of path and number."""
        return self._log.finish(name, origin)

    def _take(self, item: Call | Ended) -> None:
        task = self._tasks.get(item.pid)
        if task is None and not self._process_count:
            task = self._first_task(item.pid)
        if task is None:
            self._early.setdefault(item.pid, []).append(item)
        elif isinstance(item, Ended):
            self._end(item, task)
        elif item.result is None or item.result < 0:
            return
        elif item.name in _FORKS:
            self._fork(task, item)
        elif item.name in _EXECUTES:
            self._execute(task)
        elif item.name in _HANDLERS:
            _HANDLERS[item.name](self._recording, task, item)

    def _first_task(self, pid: int) -> Task:
        table = {
            number: Description(self._log.file(path), offset, append)
            for number, (path, offset, append) in self._inherited.items()
        }
        task = Task(self._new_process(), AddressSpace(), Descriptors(table), [self._cwd])
        self._tasks[pid] = task
        return task

    def _new_process(self) -> int:
        self._process_count += 1
        return self._process_count - 1

    def _fork(self, task: Task, call: Call) -> None:
        flags = " ".join(call.arguments)
        # CHOICE: a vfork child gets its own copy of the areas, though it borrows its parent's
        # until it executes another program: it may not touch them but by mistake.
        if "CLONE_VM" in flags and "CLONE_VFORK" not in flags:
            process, space = task.process, task.space
            space.users += 1
        else:
            process, space = self._new_process(), task.space.copy()
            self._log.add(Row(EventKind.FORK, task.process, None, extra=process))
        if "CLONE_FILES" in flags:
            descriptors = task.descriptors
            descriptors.users += 1
        else:
            descriptors = Descriptors(dict(task.descriptors.table))
        cwd = task.cwd if "CLONE_FS" in flags else list(task.cwd)
        assert call.result is not None
        self._tasks[call.result] = Task(process, space, descriptors, cwd)
        for item in self._early.pop(call.result, []):
            self._take(item)

    def _execute(self, task: Task) -> None:
        """Let the areas go; the descriptor table is the process's own again."""
        if task.space.areas:
            self._log.add(Row(EventKind.EXEC, task.process, None))
        task.space.areas.clear()
        if task.descriptors.users > 1:
            task.descriptors.users -= 1
            task.descriptors = Descriptors(dict(task.descriptors.table))

    def _end(self, ended: Ended, task: Task) -> None:
        del self._tasks[ended.pid]
        task.descriptors.users -= 1
        task.space.users -= 1
        if ended.by is not None and ended.by in self._tasks:
            self._tasks[ended.pid] = self._tasks.pop(ended.by)
        if not task.space.users:
            self._log.add(Row(EventKind.EXIT, task.process, None))


TRACED_CALLS: Final = tuple(sorted({*_HANDLERS, *_FORKS, *_EXECUTES}))
"""What strace is asked for."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A finished recording."""

    trace: Trace
    status: int
    """The command's exit status; 128 and the signal's number if it was killed."""
    lost_count: int
    """Calls left out because strace did not show where their process came from."""


def record(
    command: Sequence[str],
    *,
    anonymous: bool = False,
    origin: str = "",
    output_to_stderr: bool = False,
) -> Recorded:
    """Run `command` under strace and return what it did to files.

    Files below the working directory keep their path from there, all others their last part;
    anonymous: all are called `file-N`. output_to_stderr: the command's standard output.

    Raises:
        TraceError: there is no strace, no such command, or strace may not trace.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise TraceError("recording needs strace, which is not installed or not on the PATH")
    if shutil.which(command[0]) is None:
        raise TraceError(f"{command[0]}: no such command")
    cwd = str(Path.cwd())
    inherited = _inherited()
    with tempfile.TemporaryDirectory(prefix="essa-record-") as folder:
        text = Path(folder) / "strace.txt"
        status = _run(strace, text, command, sys.stderr.fileno() if output_to_stderr else None)
        recorder = Recorder(probe, cwd, inherited)
        if text.exists():
            with text.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
                recorder.read(lines)
    trace = recorder.finish(lambda path, number: _name(path, number, cwd, anonymous), origin)
    if not len(trace):
        raise TraceError(f"{command[0]}: strace saw no file access (may it trace here?)")
    return Recorded(trace, status, recorder.lost_count)


def _run(strace: str, text: Path, command: Sequence[str], output: int | None) -> int:
    wanted = ",".join(f"?{name}" for name in TRACED_CALLS)
    options = ["-f", "-q", "-y", "-s", "0", "-e", "signal=none", "-e", f"trace={wanted}"]
    # An interrupt from the keyboard is for the command; what it did until then is the trace.
    # A handler that does nothing, unlike an ignored signal, is not inherited over execve.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        arguments = [strace, *options, "-o", str(text), "--", *command]
        status = subprocess.Popen(arguments, stdout=output).wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


def probe(path: str) -> int | None:
    """Return the size of a regular file, NOT_REGULAR, or None if there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else NOT_REGULAR


def _inherited() -> Inherited:
    """Describe standard input, output and error where they are regular files."""
    files: Inherited = {}
    for number in range(3):
        try:
            if stat.S_ISREG(os.fstat(number).st_mode):
                path = os.readlink(f"/proc/self/fd/{number}")
                append = bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND)
                files[number] = (path, os.lseek(number, 0, os.SEEK_CUR), append)
        except OSError:
            continue
    return files


def _name(path: str, number: int, cwd: str, anonymous: bool) -> str:
    if anonymous:
        return f"file-{number}"
    inside = path.startswith(cwd.rstrip("/") + "/")
    name = os.path.relpath(path, cwd) if inside else os.path.basename(path)
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
