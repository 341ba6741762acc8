"""A checkpoint: plain data in one file that is there whole or not at all.

Rules:
- Written beside its place, synced, then renamed; a crash meanwhile leaves no checkpoint.
- A digest covers every byte. Anything else than what `save` wrote is a CheckpointError.
- Reading consumes nothing; `consume` removes the file before the new process serves anybody,
  so that a state is never resumed twice.

Layout: magic and version, length of the tree, the tree as JSON, the blobs that the tree names
in their order, a digest. Bytes and arrays are blobs; everything else stands in the tree.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FILE_NAME: Final = "checkpoint"
_HEAD: Final = struct.Struct("<8sIQ")
_MAGIC: Final = b"ESSACKPT"
_VERSION: Final = 1
_DIGEST_BYTES: Final = 32

Plain = Any
"""None, bool, int, float, str, bytes, numpy arrays; lists, tuples and dictionaries of these."""

Blob = bytes | NDArray[Any]


class CheckpointError(Exception):
    """No checkpoint can be written, or the one there cannot be used; the text says why."""


class _Packer:
    """Turns plain data into a JSON tree and blobs.

    Whatever JSON does not hold as it is becomes an object with one key that names its kind.
    """

    def __init__(self) -> None:
        self.blobs: list[Blob] = []

    def pack(self, value: Plain) -> Any:
        """The tree of one value."""
        match value:
            case None | bool() | str():
                return value
            case np.integer():
                return int(value)
            case int() | float():
                return value
            case bytes() | bytearray() | memoryview():
                self.blobs.append(bytes(value))
                return {"bytes": len(value)}
            case np.ndarray():
                self.blobs.append(np.ascontiguousarray(value))
                return {"array": [value.dtype.str, list(value.shape)]}
            case tuple():
                return {"tuple": [self.pack(item) for item in value]}
            case list():
                return [self.pack(item) for item in value]
            case dict():
                return {"dict": [[self.pack(k), self.pack(v)] for k, v in value.items()]}
        raise TypeError(f"{type(value).__name__} is no plain data")


class _Unpacker:
    """The inverse of _Packer; anything unexpected raises ValueError or a LookupError."""

    def __init__(self, blobs: memoryview) -> None:
        self._blobs = blobs

    def unpack(self, tree: Any) -> Plain:
        """The value of one tree."""
        if isinstance(tree, list):
            return [self.unpack(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        ((kind, body),) = tree.items()
        match kind:
            case "bytes":
                return bytes(self._take(body))
            case "array":
                dtype, shape = np.dtype(body[0]), tuple(body[1])
                raw = self._take(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
                return np.frombuffer(raw, dtype).reshape(shape).copy()
            case "tuple":
                return tuple(self.unpack(item) for item in body)
            case "dict":
                return {self.unpack(key): self.unpack(value) for key, value in body}
        raise ValueError(f"unknown kind {kind!r}")

    def _take(self, length: int) -> memoryview:
        if length > len(self._blobs):
            raise ValueError("a blob is missing")
        piece, self._blobs = self._blobs[:length], self._blobs[length:]
        return piece

    def finish(self) -> None:
        """Nothing may be left over."""
        if self._blobs:
            raise ValueError("blobs are left over")


def _pieces(value: Plain) -> Iterator[bytes | memoryview]:
    packer = _Packer()
    tree = json.dumps(packer.pack(value), separators=(",", ":")).encode()
    yield _HEAD.pack(_MAGIC, _VERSION, len(tree))
    yield tree
    for blob in packer.blobs:
        yield blob.reshape(-1).view(np.uint8).data if isinstance(blob, np.ndarray) else blob


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(directory: Path, value: Plain) -> Path:
    """Write the checkpoint of `directory`, replacing an older one. Raises CheckpointError."""
    path = directory / FILE_NAME
    scratch = directory / f"{FILE_NAME}.tmp"
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            for piece in _pieces(value):
                digest.update(piece)
                file.write(piece)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
        _sync_directory(directory)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from error
    return path


def load(directory: Path) -> Plain | None:
    """Read the checkpoint of `directory`; None if there is none. Raises CheckpointError."""
    path = directory / FILE_NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) < _HEAD.size + _DIGEST_BYTES or not raw.startswith(_MAGIC):
        raise CheckpointError(f"{path} is no checkpoint")
    _, version, tree_length = _HEAD.unpack_from(raw)
    if version != _VERSION:
        raise CheckpointError(f"{path} has format version {version}; this program reads {_VERSION}")
    body, digest = memoryview(raw)[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        raise CheckpointError(f"{path} is damaged: its digest does not match")
    blobs_start = _HEAD.size + tree_length
    try:
        unpacker = _Unpacker(body[blobs_start:])
        value = unpacker.unpack(json.loads(bytes(body[_HEAD.size : blobs_start])))
        unpacker.finish()
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return value


def consume(directory: Path) -> None:
    """Remove the checkpoint for good. Raises CheckpointError."""
    path = directory / FILE_NAME
    try:
        path.unlink()
        _sync_directory(directory)
    except OSError as error:
        raise CheckpointError(f"cannot remove {path}: {error.strerror}") from error
