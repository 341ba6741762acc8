"""Certificates as the daemons and commands use them: one directory, checked before use.

Rules:
- A directory holds cert.pem, key.pem and ca.pem; `essa certs` writes such directories.
- Whatever is wrong with them is found at the start, as an InvalidRequestError of one line that
  names the option and the file. What the two ends say to each other is the library's part.
- Both ends prove who they are: a server takes no peer without a certificate of its authority.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared import identity
from shared.errors import InvalidRequestError
from shared.identity import Identity, Role

CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
AUTHORITY: Final = "ca.pem"
"""The files of a directory."""
FILE_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate, its key, and the authority whose certificates are believed; all PEM."""

    identity: Identity
    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a server that wants a certificate of every peer."""
        pair = [(self.key, self.certificate)]
        return grpc.ssl_server_credentials(pair, self.authority, require_client_auth=True)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a client that shows its certificate."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


def _wrong(option: str, path: Path, bound: str) -> InvalidRequestError:
    return InvalidRequestError(f"{option}: {path} {bound}", field=option, value=str(path))


def read_certificate(path: Path, option: str) -> x509.Certificate:
    """The first certificate of a PEM file. Raises InvalidRequestError."""
    try:
        return x509.load_pem_x509_certificate(_read(path, option))
    except ValueError:
        raise _wrong(option, path, "holds no certificate in PEM") from None


def identity_of(certificate: x509.Certificate) -> Identity | None:
    """Who the certificate names; None if it names nobody, or more than one."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return identity.parse(uris[0]) if len(uris) == 1 else None


def load_tls(directory: Path, option: str, roles: Collection[Role]) -> Tls:
    """Read and check a directory; its certificate must be of one of `roles`.

    Raises InvalidRequestError.
    """
    if not directory.is_dir():
        raise _wrong(option, directory, "is no directory")
    path = directory / CERTIFICATE
    certificate = read_certificate(path, option)
    authority = read_certificate(directory / AUTHORITY, option)
    key = _read(directory / KEY, option)
    _check_key(certificate, key, directory / KEY, option)
    check_age(certificate, path, option)
    check_age(authority, directory / AUTHORITY, option)
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise _wrong(option, path, f"is not of the authority of {AUTHORITY} beside it") from None
    holder = identity_of(certificate)
    if holder is None:
        raise _wrong(option, path, "names no essa:ROLE:NAME; make one with essa certs issue")
    if holder.role not in roles:
        wanted = " or ".join(roles)
        raise _wrong(option, path, f"is of role {holder.role}; it must be of role {wanted}")
    return Tls(holder, _read(path, option), key, _read(directory / AUTHORITY, option))


def _read(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _wrong(option, path, f"cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise _wrong(option, path, f"is longer than {FILE_BYTES_MAX} bytes")
    return data


def _check_key(certificate: x509.Certificate, raw: bytes, path: Path, option: str) -> None:
    try:
        key = load_pem_private_key(raw, password=None)
    except (ValueError, TypeError):
        raise _wrong(option, path, "holds no private key in PEM without a password") from None
    if key.public_key() != certificate.public_key():
        raise _wrong(option, path, f"does not belong to {CERTIFICATE} beside it")


def check_age(certificate: x509.Certificate, path: Path, option: str) -> None:
    """Raise InvalidRequestError unless it is valid by now. path: its file."""
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        raise _wrong(option, path, f"expired at {certificate.not_valid_after_utc:%F %T} UTC")
    if certificate.not_valid_before_utc > now:
        begin = certificate.not_valid_before_utc
        raise _wrong(option, path, f"is valid only from {begin:%F %T} UTC on")
