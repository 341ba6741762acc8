"""`essa certs`: a test authority, its certificates, and tokens that are traded for them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from essa_cli import certs_enrolment
from essa_cli.certificates.authority import (
    Authority,
    general_name,
    key_pem,
    make_authority,
    new_key,
    write_directory,
)
from essa_cli.certificates.options import check_days, check_name
from essa_cli.errors import CliError
from shared.identity import Identity, Role
from shared.rpc.tls import AUTHORITY, identity_of, read_certificate

Directory = Annotated[Path, typer.Argument(help="The authority's directory.", metavar="DIRECTORY")]
Days = Annotated[int, typer.Option(help="How long it is valid.", metavar="N")]
Out = Annotated[
    Path,
    typer.Option(help="Where cert.pem, key.pem and ca.pem go.", metavar="DIRECTORY"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class Holder(StrEnum):
    """The roles that people give out."""

    HOST = Role.HOST
    GUEST = Role.GUEST
    OPERATOR = Role.OPERATOR


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    certs = typer.Typer(
        no_args_is_help=True,
        help="Make a test authority and certificates for hosts, guests and operators.",
        epilog="Example: essa certs init authority",
    )
    certs.command("init", epilog="Example: essa certs init authority")(init)
    certs.command(
        "issue",
        epilog="Example: essa certs issue authority --role host --name host --san host "
        "--san localhost --out host-tls",
    )(issue)
    certs.command("show", epilog="Example: essa certs show host-tls/cert.pem")(show)
    certs_enrolment.register(certs)
    app.add_typer(certs, name="certs")


def init(directory: Directory, days: Days = 365) -> None:
    """Make an authority: ca.pem, which everybody gets, and ca-key.pem, which nobody does."""
    make_authority(directory, check_days(days))
    print(f"{directory / AUTHORITY}: an authority for tests, valid for {days} days")


def issue(
    directory: Directory,
    role: Annotated[Holder, typer.Option(help="What the holder may be.")],
    name: Annotated[str, typer.Option(help="Who it is; of a guest, its name.", metavar="NAME")],
    out: Out,
    san: Annotated[
        list[str] | None,
        typer.Option(
            help="Name or address under which others call it; repeatable. Hosts need one; "
            "operators may have one, for the gate of a race.",
            metavar="HOST",
        ),
    ] = None,
    days: Days = 365,
) -> None:
    """Make a key and a certificate for it."""
    holder = Identity(Role(role), check_name(name))
    if role is Holder.HOST and not san:
        raise CliError("--san, with --role host: what guests call it is missing")
    if role is Holder.GUEST and san:
        raise CliError("--san, with --role guest: nobody calls guests")
    for one in san or ():
        general_name(one)
    check_days(days)
    authority, key = Authority(directory), new_key()
    pem = authority.issue(holder, key.public_key(), sans=san or (), days=days)
    authority.remember(holder, sans=san or ())  # before anybody has the certificate
    write_directory(out, pem, key_pem(key), authority.pem)
    print(f"{out}: {holder}, valid for {days} days")


def show(
    file: Annotated[Path, typer.Argument(help="A certificate in PEM.", metavar="FILE")],
    as_json: Json = False,
) -> None:
    """Say who a certificate names, and until when it is valid."""
    certificate = read_certificate(file, "FILE")
    holder = identity_of(certificate)
    shown = {
        "identity": None if holder is None else holder.uri,
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "valid_from": certificate.not_valid_before_utc.isoformat(),
        "valid_until": certificate.not_valid_after_utc.isoformat(),
        "serial": f"{certificate.serial_number:x}",
    }
    if as_json:
        print(json.dumps(shown, indent=2))
        return
    for key, value in shown.items():
        print(f"{key.replace('_', ' '):<12} {value or 'nobody'}")
