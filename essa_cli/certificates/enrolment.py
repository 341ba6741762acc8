"""The authority's service: trades tokens for certificates, and keeps tokens at hand.

Rules:
- Peers show no certificate, they have none yet; the authority shows one that is made at its
  start and that nobody else can have.
- What a request asks for is its key and its name; everything else the authority decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from essa_cli.certificates.authority import Authority, key_pem, new_key
from essa_cli.certificates.tokens import TOKEN_BYTES, Tokens
from essa_cli.errors import CliError
from shared.errors import DrainingError, InvalidRequestError
from shared.essa.v1 import enrolment_pb2 as pb
from shared.essa.v1 import enrolment_pb2_grpc
from shared.identity import Identity, Role
from shared.rpc.channel import SERVER_OPTIONS, Address
from shared.rpc.sockets import bind
from shared.rpc.standard import Standard
from shared.rpc.status import reports_status
from shared.rpc.tls import identity_of
from shared.rpc.tolerant import TolerantRegistrar
from shared.telemetry import logger

_STUBS: Final[Any] = enrolment_pb2_grpc  # generated without types
_SERVICE: Final = pb.DESCRIPTOR.services_by_name["EnrolmentService"].full_name

REQUEST_BYTES_MAX: Final = 4096
ENROL_BYTES_MAX: Final = 64 << 10
_BOUND: Final = {"grpc.max_receive_message_length": ENROL_BYTES_MAX}
_OPTIONS: Final = tuple((dict(SERVER_OPTIONS) | _BOUND).items())
_SELF_DAYS: Final = 3650
FILL_SECONDS: Final = 0.5


def key_of(request: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a certification request that is signed with it. Raises InvalidRequestError."""
    if not 1 <= len(request) <= REQUEST_BYTES_MAX:
        text = f"request has {len(request)} bytes; it must have 1 to {REQUEST_BYTES_MAX}"
        raise InvalidRequestError(text, field="request", value=len(request))
    try:
        asked = x509.load_der_x509_csr(request)
        key = asked.public_key()
        if (
            isinstance(key, ec.EllipticCurvePublicKey)
            and isinstance(key.curve, ec.SECP256R1)
            and asked.is_signature_valid
        ):
            return key
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        pass
    text = "request must be a certification request for a P-256 key, signed with it"
    raise InvalidRequestError(text, field="request")


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Trades tokens. failure: set once the directory cannot be used, or an exception of our own
    has come up; the service ends then."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def bug_found(self, error: Exception) -> None:
        """See `reports_status`."""
        if not self.failure.done():
            self.failure.set_exception(error)

    @reports_status
    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        """Issue a certificate and spend the token."""
        if len(request.token) != TOKEN_BYTES:
            text = f"token has {len(request.token)} bytes; it must have {TOKEN_BYTES}"
            raise InvalidRequestError(text, field="token", value=len(request.token))
        try:
            self._tokens.check(request.token)  # without a token nobody's request is taken apart
            pem = self._tokens.trade(request.token, request.name, key_of(request.request))
        except CliError as error:
            self.bug_found(error)
            raise DrainingError("the authority stops: it cannot use its directory") from None
        holder = identity_of(x509.load_pem_x509_certificate(pem))
        logger().info("enrolled", holder=str(holder), peer=context.peer())
        return pb.EnrolResponse(certificate=pem)


async def serve(
    authority: Authority,
    listen: Address,
    places: Mapping[Role, Path],
    count: int,
    days: int,
    serving: Callable[[Address], None],
) -> None:
    """Serve until cancelled, `count` tokens for each role lying in its directory.

    serving: told the true address. Raises InvalidRequestError for a socket, CliError for a
    directory that cannot be used, also when that is found out later.
    """
    tokens = Tokens(authority, days)
    server = grpc.aio.server(options=_OPTIONS)
    servicer = EnrolmentServicer(tokens)
    _STUBS.add_EnrolmentServiceServicer_to_server(servicer, TolerantRegistrar(server))
    standard = Standard()
    standard.add(server, _SERVICE)
    bound = bind(server, listen, "--listen", _credentials(authority))
    for place in places.values():  # not before it is sure that we are the ones who serve
        tokens.clear(place)
    fill(tokens, places, count)
    await standard.serving()
    await server.start()
    serving(bound)
    try:
        while not servicer.failure.done():
            await asyncio.wait([servicer.failure], timeout=FILL_SECONDS)
            fill(tokens, places, count)
        servicer.failure.result()
    finally:
        await server.stop(1.0)


def fill(tokens: Tokens, places: Mapping[Role, Path], count: int) -> None:
    """Replace the tokens that have been taken. Raises CliError."""
    for role, place in places.items():
        tokens.fill(place, role, count)


def _credentials(authority: Authority) -> grpc.ServerCredentials:
    """With a key and a certificate of this process alone."""
    key = new_key()
    pem = authority.issue(
        Identity(Role.AUTHORITY, "authority"),
        key.public_key(),
        sans=["localhost"],
        days=_SELF_DAYS,
    )
    return grpc.ssl_server_credentials([(key_pem(key), pem)])
