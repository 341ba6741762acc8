"""The test authority: a key, and certificates that say who their holder is.

Rules:
- Keys are ECDSA P-256 and readable by their owner alone.
- A certificate says what the authority decided. Of a request only its public key is taken.
- The authority remembers the names it gave out, in its directory under names/. Nobody else is
  ever called as a host or an operator is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from essa_cli.certificates.files import create, refuse_to_replace, write_new
from essa_cli.errors import CliError
from shared.identity import NAME, Identity, Role
from shared.rpc.tls import AUTHORITY, CERTIFICATE, KEY, check_age, read_certificate

AUTHORITY_KEY: Final = "ca-key.pem"
NAMES: Final = "names"
AUTHORITY_HOST: Final = "authority.essa.invalid"
"""What the certificate of an authority that enrols bears; no other of its certificates does."""
DAYS_MAX: Final = 3650
CLOCK_SKEW: Final = timedelta(minutes=5)
"""A certificate is valid from a little before it is made, for peers whose clocks are behind."""
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")

PublicKey = ec.EllipticCurvePublicKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key of the only kind there is here."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As key.pem holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_directory(out: Path, certificate: bytes, key: bytes, authority: bytes) -> None:
    """Write what `--tls` takes; the certificate last. Raises CliError."""
    refuse_to_replace(out / CERTIFICATE, out / KEY, out / AUTHORITY)
    write_new(out / KEY, key, 0o600)
    write_new(out / AUTHORITY, authority)
    write_new(out / CERTIFICATE, certificate)


class Authority:
    """An authority whose directory is there."""

    def __init__(self, directory: Path) -> None:
        """Raises CliError or InvalidRequestError for a directory that is none, or is too old."""
        self.directory = directory
        self._certificate = read_certificate(directory / AUTHORITY, "DIRECTORY")
        try:
            raw = (directory / AUTHORITY_KEY).read_bytes()
            key = load_pem_private_key(raw, password=None)
        except OSError as error:
            path = directory / AUTHORITY_KEY
            raise CliError(f"DIRECTORY: {path} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError):
            raise CliError(f"DIRECTORY: {directory / AUTHORITY_KEY} holds no key") from None
        if key.public_key() != self._certificate.public_key():
            raise CliError(f"DIRECTORY: {AUTHORITY_KEY} does not belong to {AUTHORITY}")
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CliError(f"DIRECTORY: {AUTHORITY_KEY} is no elliptic curve's key")
        check_age(self._certificate, directory / AUTHORITY, "DIRECTORY")
        self._key = key

    @property
    def pem(self) -> bytes:
        """Its own certificate, ca.pem."""
        return self._certificate.public_bytes(Encoding.PEM)

    def remember(self, holder: Identity, by: str = "", sans: Iterable[str] = ()) -> bool:
        """Note that the name is given out; False if it was before. Raises CliError.

        by: to whom; the same one may have it again. sans: what is noted with it, as far as
        somebody could ask for it.
        """
        names = [_noted(holder.role, name) for name in (holder.name, *sans) if NAME.fullmatch(name)]
        try:
            new = {self._note(self.directory / NAMES / name, by) for name in names}
        except OSError as error:
            raise CliError(f"{self.directory / NAMES}: {error.strerror}") from None
        return False not in new

    def _note(self, path: Path, by: str) -> bool:
        return create(path, by.encode()) or (bool(by) and path.read_text() == by)

    def issue(
        self,
        holder: Identity,
        key: PublicKey,
        *,
        sans: Iterable[str] = (),
        days: int = 365,
        begin: datetime | None = None,
    ) -> bytes:
        """A certificate in PEM for the holder of the key, valid for so many days.

        begin: default now. sans: names and addresses under which others call it; an
        authority's own is added. Raises CliError for a bad one.
        """
        begin = begin or datetime.now(UTC)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(holder.uri)]
        names += [general_name(san) for san in sans]
        if holder.role is Role.AUTHORITY:
            names.append(x509.DNSName(AUTHORITY_HOST))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if len(names) > 1:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        certificate = (
            _builder(holder.name, begin, begin + timedelta(days=days), key)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)


def _noted(role: Role, name: str) -> str:
    """Under what a name is noted: the names under which somebody is called know no roles and no
    case, because no client asks for the one or looks at the other."""
    return f"guest.{name}" if role is Role.GUEST else f"called.{name.lower()}"


def general_name(san: str) -> x509.GeneralName:
    """A DNS name or an address as a certificate holds it. Raises CliError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        pass
    if _HOST_NAME.fullmatch(san) is None or san.lower() == AUTHORITY_HOST:
        raise CliError(f"--san is {san!r}; it must be a host's name or an IP address")
    return x509.DNSName(san)


def make_authority(directory: Path, days: int) -> Authority:
    """Make an authority with a new key. Raises CliError where one is already."""
    refuse_to_replace(directory / AUTHORITY, directory / AUTHORITY_KEY)
    key, now = new_key(), datetime.now(UTC)
    usage = dict.fromkeys(_KEY_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
    certificate = (
        _builder("ESSA test authority", now, now + timedelta(days=days), key.public_key())
        .issuer_name(_subject("ESSA test authority"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_new(directory / AUTHORITY_KEY, key_pem(key), 0o600)
    write_new(directory / AUTHORITY, certificate.public_bytes(Encoding.PEM))
    return Authority(directory)


_KEY_USAGES: Final[Sequence[str]] = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(name: str, begin: datetime, end: datetime, key: PublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - CLOCK_SKEW)
        .not_valid_after(end)
    )
