"""The file of a log: made once, never written over, ended by its process or cut off with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TextIO

from shared.runlog.records import FORMAT, Record, encode

BUFFER_BYTES: Final = 1 << 18


class RunLogError(Exception):
    """A log cannot be written, or cannot be read; one line that names it."""


class RunLog:
    """One process's log. Create it with `create_run_log`; the header comes first."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._begun = False

    def header(self, role: str, **said: Any) -> None:
        """Write who the log is of, and what it was made from."""
        self._begun = True
        self._file.write(encode({"format": FORMAT, "role": role, **said}) + "\n")

    def write(self, record: Record) -> None:
        """Write a record. Raises OSError when the buffer has to be written and cannot be."""
        self._file.write(encode(record) + "\n")

    def write_line(self, line: str) -> None:
        """Write a record that is spelled already."""
        self._file.write(line)

    def close(self) -> None:
        """Write what is buffered, and close. Doing it twice is harmless.

        The log of a process that was refused before it began is removed.
        """
        if not self._file.closed:
            self._file.close()
            if not self._begun:
                self._path.unlink(missing_ok=True)


def create_run_log(directory: Path, name: str) -> RunLog:
    """Begin a log, in a directory that is made if it is not there. Raises RunLogError."""
    path = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return RunLog(path, path.open("x", encoding="utf-8", buffering=BUFFER_BYTES))
    except FileExistsError:
        raise RunLogError(f"{path} exists: a recording is never written over") from None
    except OSError as error:
        raise RunLogError(f"cannot write {path}: {error.strerror}") from None
