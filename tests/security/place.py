"""An authority for tests with its tokens, served or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from essa_cli.certificates import enrolment
from essa_cli.certificates.authority import make_authority
from essa_cli.certificates.tokens import Token, Tokens, waiting
from shared.identity import Role
from shared.rpc.channel import Address


class Place:
    """An authority, and tokens for guests and hosts."""

    def __init__(self, directory: Path) -> None:
        self.authority = make_authority(directory / "authority", 2)
        self.places = {Role.GUEST: directory / "guests", Role.HOST: directory / "hosts"}
        self.tokens = Tokens(self.authority, 1)
        enrolment.fill(self.tokens, self.places, 3)

    def secret(self, role: Role = Role.GUEST) -> bytes:
        """Of a token that nobody has taken; it stays where it is."""
        path = waiting(self.places[role])[0]
        return Token.read(path).secret

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Address]:
        """The service, on a port that it chooses. Raises what it ends with."""
        bound: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        listen = Address(host="127.0.0.1")
        run = enrolment.serve(self.authority, listen, self.places, 3, 1, bound.set_result)
        task = self.task = asyncio.ensure_future(run)
        try:
            yield await asyncio.wait_for(bound, 10)
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


def request_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certification request, DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
