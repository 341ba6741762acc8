"""The other end: a key that is made here, a token, and the certificate that it is traded for.

Rules:
- The key never leaves the directory. What was begun is gone on with: the same token and the
  same key ask for the same certificate, however often.
- Waiting is said: for a token, and for an authority that is not there yet.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from essa_cli.certificates.authority import AUTHORITY_HOST, key_pem, new_key
from essa_cli.certificates.files import read_foreign, refuse_to_replace, write_new
from essa_cli.certificates.tokens import Token, claim
from essa_cli.errors import CliError
from shared.errors import DrainingError, TokenRefusedError
from shared.essa.v1 import enrolment_pb2 as pb
from shared.essa.v1 import enrolment_pb2_grpc
from shared.rpc.channel import Address, HostUnreachableError, call, connect
from shared.rpc.tls import AUTHORITY, CERTIFICATE, KEY
from shared.telemetry import logger

TOKEN: Final = "token"
"""The token in the directory, until it is spent."""
RETRY_SECONDS: Final = 0.5
REMIND_SECONDS: Final = 10.0


def enrol(
    address: Address, place: Path, name: str, out: Path, wait_seconds: float
) -> x509.Certificate:
    """Get a certificate into `out`, beside its key and the authority's certificate.

    place: see `claim`. Raises CliError for a token or a directory that is none or is refused,
    other EssaErrors as the authority says them, and HostUnreachableError or DrainingError if the
    authority has not come in time.
    """
    token_file = out / TOKEN
    refuse_to_replace(out / CERTIFICATE)
    if not os.path.exists(place) and not os.path.lexists(token_file):
        raise CliError(f"--token: {place} is not there")
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"{out} cannot be made: {error.strerror}") from None
    patience = Patience(wait_seconds)
    while not os.path.lexists(token_file) and not claim(place, token_file):
        patience.wait(CliError(f"--token: nobody has put a token into {place}"), "token")
    token = _token(token_file)
    if not _is_there(out / AUTHORITY, token.authority):
        refuse_to_replace(out / AUTHORITY)
    request = pb.EnrolRequest(token=token.secret, name=name, request=_request(_key(out), name))
    while True:
        try:
            pem = asyncio.run(_ask(address, token, request))
            break
        except (HostUnreachableError, DrainingError) as error:
            patience.wait(error, "authority")
        except TokenRefusedError as error:
            text = f"{token_file}: {error}; another token is taken when this file is gone"
            raise CliError(text) from None
    if not _is_there(out / AUTHORITY, token.authority):
        write_new(out / AUTHORITY, token.authority)
    write_new(out / CERTIFICATE, pem)
    token_file.unlink(missing_ok=True)
    return x509.load_pem_x509_certificate(pem)


def _token(path: Path) -> Token:
    try:
        return Token.read(path)
    except FileNotFoundError:
        raise CliError(f"{path} is gone: another process has used it") from None


def _is_there(path: Path, data: bytes) -> bool:
    try:
        return read_foreign(path) == data
    except OSError:
        return False


class Patience:
    """Waits that together last so long, and are said now and then."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._remind_at: dict[str, float] = {}

    def wait(self, failure: Exception, what: str) -> None:
        """Wait a little; raises `failure` if that would be too long."""
        now = time.monotonic()
        if now + RETRY_SECONDS > self._deadline:
            raise failure
        if now >= self._remind_at.get(what, now):
            self._remind_at[what] = now + REMIND_SECONDS
            seconds_left = round(self._deadline - now, 1)
            logger().warning(f"{what}_awaited", seconds_left=seconds_left, reason=str(failure))
        time.sleep(RETRY_SECONDS)


def _key(out: Path) -> ec.EllipticCurvePrivateKey:
    """The key in the directory, made if there is none yet."""
    path = out / KEY
    if not os.path.lexists(path):
        write_new(path, key_pem(new_key()), 0o600)
    try:
        key = load_pem_private_key(read_foreign(path), password=None)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CliError(f"{path} is no key of ours")
    return key


def _request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


async def _ask(address: Address, token: Token, request: pb.EnrolRequest) -> bytes:
    credentials = grpc.ssl_channel_credentials(token.authority)
    channel = connect(address, credentials, AUTHORITY_HOST)
    try:
        stub: Any = enrolment_pb2_grpc.EnrolmentServiceStub(channel)  # type: ignore[no-untyped-call]
        answer = await call(stub, "Enrol", request, address)
        return bytes(answer.certificate)
    finally:
        await channel.close(None)
