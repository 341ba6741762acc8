"""Files of keys, tokens and certificates: there as a whole or not at all, and never replaced.

Rules:
- A file has its mode before it has its content. Until it is whole it is a hidden draft.
- What is there is on the disk: it outlives a power failure.
- What others may have put there is not trusted to be a file, or to have an end.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from essa_cli.errors import CliError

DRAFT: Final = ".draft"
FILE_BYTES_MAX: Final = 1 << 20


def create(path: Path, data: bytes, mode: int = 0o600) -> bool:
    """Write a file; False if one was there before. Raises OSError.

    Directories that it needs are made for the owner alone.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(8)}{DRAFT}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    _sync(path.parent)
    return True


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """The same for what a user wants written. Raises CliError, also for a file that is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = create(path, data, mode)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}") from None
    if not made:
        raise CliError(f"{path} exists already; nothing is replaced")


def refuse_to_replace(*paths: Path) -> None:
    """Raise CliError if one of these is there."""
    for path in paths:
        if os.path.lexists(path):
            raise CliError(f"{path} exists already; nothing is replaced")


def read_foreign(path: Path) -> bytes:
    """What a file holds that others may have put there, at most FILE_BYTES_MAX of it.

    Raises OSError, also for what is none: a link, a pipe, a directory.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no file")
        return os.read(descriptor, FILE_BYTES_MAX)
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes out that lock the same file. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
