"""One-time tokens: who has one gets one certificate, in a role that the authority has decided.

Rules:
- The authority keeps of a token only its hash, with the role, under tokens/; what it was spent
  on lies under spent/. Both outlive the process, and a token is spent once, whatever happens.
- A token travels as a file that holds the authority's certificate too, so that its holder knows
  whom to believe. Whoever renames the file first has it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from essa_cli.certificates.authority import Authority
from essa_cli.certificates.files import DRAFT, alone, create, read_foreign
from essa_cli.errors import CliError
from shared.errors import InvalidRequestError, NameTakenError, TokenRefusedError
from shared.identity import NAME, NAME_BOUND, Identity, Role

TOKEN_BYTES: Final = 32
SUFFIX: Final = ".token"
_TITLE: Final = "essa-token"
_TOKENS: Final = "tokens"
_SPENT: Final = "spent"
_LOCK: Final = "lock"
_TAKEN: Final = ".taken"
LEFT_SECONDS: Final = 60.0
"""Nobody takes so long to move a token."""


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Token:
    """What a token's file says. authority: the certificate to believe, PEM."""

    secret: bytes = field(repr=False)
    authority: bytes

    def text(self) -> bytes:
        """As the file holds it."""
        word = base64.urlsafe_b64encode(self.secret).decode()
        return f"{_TITLE} {word}\n".encode() + self.authority

    @classmethod
    def read(cls, path: Path) -> Token:
        """Raises CliError for what is none, FileNotFoundError where nothing is."""
        try:
            raw = read_foreign(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CliError(f"--token: {path} cannot be read: {error.strerror}") from None
        line, _, authority = raw.partition(b"\n")
        title, _, word = line.decode(errors="replace").partition(" ")
        with suppress(ValueError):
            secret = base64.b64decode(word, altchars="-_", validate=True)
            x509.load_pem_x509_certificate(authority)
            if title == _TITLE and len(secret) == TOKEN_BYTES:
                return cls(secret, authority)
        raise CliError(f"--token: {path} holds no token")


def waiting(directory: Path) -> list[Path]:
    """The tokens that lie in a directory and nobody has taken, in the order of their names.

    None where there is no directory. Raises OSError for one that may not be read.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [directory / name for name in sorted(names) if name.endswith(SUFFIX)]


def claim(place: Path, out: Path) -> bool:
    """Take a token and put it at `out`; False if there is none left. Raises CliError.

    place: a token's file, or a directory of them, of which one is taken that nobody else takes;
    what is no token is passed over there. What cannot be put at `out` stays where it was.
    """
    try:
        if not place.is_dir():
            return _take(place, out)
        paths = waiting(place)
    except OSError as error:
        raise CliError(f"--token: {place} cannot be read: {error.strerror}") from None
    return any(_take(path, out) for path in paths if _is_token(path))


def _is_token(path: Path) -> bool:
    try:
        Token.read(path)
    except (CliError, FileNotFoundError):
        return False
    return True


def _take(path: Path, out: Path) -> bool:
    """Move a token to `out`, where another process of the same may have put one meanwhile."""
    taken = path.with_name(f".{secrets.token_hex(8)}{_TAKEN}")
    try:
        token = Token.read(path)
        path.rename(taken)
        try:
            made = create(out, token.text())
        except BaseException:
            taken.rename(path)
            raise
        if made:
            taken.unlink(missing_ok=True)
        else:
            taken.rename(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        text = f"--token: {path} cannot be moved to {out}: {error.strerror}"
        raise CliError(text) from None
    return True


def _left(directory: Path) -> list[Path]:
    """Hidden files that nobody works on any more. Raises OSError."""
    if not directory.exists():
        return []
    found, ours, before = [], (_TAKEN, DRAFT), time.time() - LEFT_SECONDS
    for entry in os.scandir(directory):
        with suppress(FileNotFoundError):
            # Who takes a token renames it, which changes this time and not the other.
            changed = entry.stat(follow_symlinks=False).st_ctime
            if entry.name.startswith(".") and entry.name.endswith(ours) and changed < before:
                found.append(directory / entry.name)
    return found


class Tokens:
    """The tokens of one authority. Methods are atomic, also against other processes."""

    def __init__(self, authority: Authority, days: int) -> None:
        """days: how long a certificate that is traded for a token is valid."""
        self._authority, self._days = authority, days
        self._tokens = authority.directory / _TOKENS
        self._spent = authority.directory / _SPENT

    def fill(self, directory: Path, role: Role, count: int) -> None:
        """Let `count` tokens for the role lie in the directory. Raises CliError."""
        try:
            for _ in range(count - len(waiting(directory))):
                secret = secrets.token_bytes(TOKEN_BYTES)
                create(self._tokens / _hash(secret), str(role).encode())
                create(
                    directory / f"{secrets.token_hex(8)}{SUFFIX}",
                    Token(secret, self._authority.pem).text(),
                )
        except OSError as error:
            raise CliError(f"{directory} cannot be filled: {error.strerror}") from None

    def clear(self, directory: Path) -> None:
        """Take away what is of no use to anybody: tokens of another authority, or of an earlier
        one, spent ones, what is no token, and what a process that was killed has left. Raises
        CliError."""
        try:
            useless = [path for path in waiting(directory) if not self._is_of_use(path)]
            useless += _left(directory)
        except OSError as error:
            raise CliError(f"{directory} cannot be read: {error.strerror}") from None
        for path in useless:
            with suppress(OSError):  # a directory, say: nobody takes it for a token
                path.unlink()

    def _is_of_use(self, path: Path) -> bool:
        try:
            token = Token.read(path)
        except (CliError, FileNotFoundError):
            return False
        number = _hash(token.secret)
        known, spent = ((place / number).exists() for place in (self._tokens, self._spent))
        return known and not spent and token.authority == self._authority.pem

    def check(self, secret: bytes) -> None:
        """Raise TokenRefusedError for a token that is none of this authority's, spent or not, and
        CliError for a directory that cannot be used."""
        try:
            self._role(_hash(secret))
        except OSError as error:
            raise self._unusable(error) from None

    def trade(self, secret: bytes, name: str, key: ec.EllipticCurvePublicKey) -> bytes:
        """A certificate in PEM for the token, the same one again for the same name and key.

        Raises TokenRefusedError, NameTakenError or InvalidRequestError, and spends nothing then;
        CliError for a directory that cannot be used.
        """
        if NAME.fullmatch(name) is None:
            text = f"name is {name!r}; it must be {NAME_BOUND}"
            raise InvalidRequestError(text, field="name", value=name)
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        wanted = {"name": name, "key": _hash(spki)}
        try:
            with alone(self._authority.directory / _LOCK):
                return self._trade(_hash(secret), wanted, key)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> CliError:
        return CliError(f"{self._authority.directory} cannot be used: {error.strerror}")

    def _trade(self, number: str, wanted: dict[str, str], key: ec.EllipticCurvePublicKey) -> bytes:
        role = self._role(number)
        if (known := self._spent_on(number)) is not None:
            return _same(known, wanted)
        holder = Identity(role, wanted["name"])
        pem = self._issue(holder, key)
        if not self._authority.remember(holder, number):
            text = f"the name of {holder} was given out before"
            raise NameTakenError(text, name=holder.name)
        record = json.dumps(wanted | {"certificate": pem.decode()}).encode()
        made = create(self._spent / number, record)
        assert made, "we are alone"
        return pem

    def _role(self, number: str) -> Role:
        try:
            return Role((self._tokens / number).read_text())
        except FileNotFoundError:
            raise TokenRefusedError("the token is none of this authority's") from None
        except ValueError:
            raise TokenRefusedError("the record of the token is damaged") from None

    def _spent_on(self, number: str) -> dict[str, str] | None:
        try:
            found = json.loads((self._spent / number).read_text())
            return {field: str(found[field]) for field in ("name", "key", "certificate")}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise TokenRefusedError("the record of the token is damaged") from None

    def _issue(self, holder: Identity, key: ec.EllipticCurvePublicKey) -> bytes:
        """Hosts and operators are called by their name, and from their own machine."""
        sans = [] if holder.role is Role.GUEST else [holder.name, "localhost"]
        try:
            return self._authority.issue(holder, key, sans=sans, days=self._days)
        except CliError:
            text = f"name is {holder.name!r}; of a {holder.role} it must be a host's name"
            raise InvalidRequestError(text, field="name", value=holder.name) from None


def _same(known: dict[str, str], wanted: dict[str, str]) -> bytes:
    if any(known[field] != value for field, value in wanted.items()):
        raise TokenRefusedError("the token was spent already, on another name or key")
    return known["certificate"].encode()
