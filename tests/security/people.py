"""An authority for tests, and certificates of it for whoever is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from essa_cli.certificates.authority import (
    Authority,
    key_pem,
    make_authority,
    new_key,
    write_directory,
)
from shared.identity import Identity, Role
from shared.rpc.tls import Tls, load_tls


class People:
    """Makes each directory once; `tls` loads it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority: Authority = make_authority(directory / "authority", 2)

    def path(self, role: Role, name: str, *, days_ago: int = 0) -> Path:
        """A directory as `--tls` takes it; its certificate is good for a day."""
        out = self.directory / f"{role}-{name}-{days_ago}"
        if not out.exists():
            key = new_key()
            sans = [] if role is Role.GUEST else ["localhost"]
            begin = datetime.now(UTC) - timedelta(days=days_ago)
            holder = Identity(role, name)
            pem = self.authority.issue(holder, key.public_key(), sans=sans, days=1, begin=begin)
            write_directory(out, pem, key_pem(key), self.authority.pem)
        return out

    def tls(self, role: Role, name: str) -> Tls:
        """The same, loaded."""
        return load_tls(self.path(role, name), "--tls", (role,))
