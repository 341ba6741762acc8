"""The socket of a server: had, or refused with the reason.

Rules:
- What is wrong is found out with a socket of our own, because the library only says that it failed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

import grpc

from shared.errors import InvalidRequestError
from shared.rpc.channel import Address


def bind(
    server: grpc.Server | grpc.aio.Server,
    address: Address,
    option: str,
    credentials: grpc.ServerCredentials | None,
) -> Address:
    """Take the server's socket; returns the address with its true port.

    credentials: None for a plain port; a Unix socket has none. Raises InvalidRequestError, which
    names the option.
    """
    try:
        _try_socket(address)
        if credentials is None or address.path:
            port = server.add_insecure_port(address.target)
        else:
            port = server.add_secure_port(address.target, credentials)
    except OSError as error:
        raise _unusable(option, address, _reason(error)) from None
    except RuntimeError as error:  # somebody was faster, or the library is choosier
        raise _unusable(option, address, str(error)) from None
    return address if address.path else Address(host=address.host, port=port)


def _unusable(option: str, address: Address, reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{option} {address} cannot be used: {reason}", field=option, value=str(address)
    )


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is in use by another process"
    return error.strerror or str(error)


def _try_socket(address: Address) -> None:
    """Raise OSError unless the address can be bound."""
    if address.path:
        _try_path(address.path)
        return
    family, kind, protocol, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)


def _try_path(path: str) -> None:
    """The library replaces whatever socket is there; one that somebody serves is not ours."""
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise OSError(errno.ENOENT, f"{directory} is no directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"{directory} is not writable")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "it exists and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return  # left over by a process that was killed
    raise OSError(errno.EADDRINUSE, "in use")
