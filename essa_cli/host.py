"""`essa host`: run a host daemon in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from essa_cli.pid_file import write_pid_file
from host_daemon import __main__ as daemon
from host_daemon import config
from shared.rpc.channel import DEFAULT_CONTROL, DEFAULT_LISTEN


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("host", epilog=_EPILOG)(host)


_EPILOG = """Example: essa host --memory 64M --listen unix:essa.sock --state-dir state

Every option can also be given in the environment, as ESSA_HOST_MEMORY and so on. When the
host is ready it prints one line that begins with "essa host ready:". SIGTERM and SIGINT stop
it; with --state-dir the next one goes on where it stopped."""

_SIZE = "as a size such as 64M or a number of 4 KiB pages"


def host(
    listen: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Where guests connect: unix:PATH or HOST:PORT; repeatable. "
            f"[default: {DEFAULT_LISTEN}]",
            metavar="ADDRESS",
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            help=f"Where operators connect. [default: {DEFAULT_CONTROL}]", metavar="ADDRESS"
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help=f"The frame pool, {_SIZE}. [default: 64M]", metavar="SIZE"),
    ] = None,
    paging_file: Annotated[
        Path | None,
        typer.Option(
            help="The paging device. [default: DIRECTORY/paging with --state-dir, otherwise a "
            "nameless temporary file]",
            metavar="FILE",
        ),
    ] = None,
    paging_size: Annotated[
        str | None,
        typer.Option(
            help=f"Its slots, {_SIZE}. [default: {config.PAGING_TIMES_MEMORY} times the memory]",
            metavar="SIZE",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="The reclaim policy: hints-first, zvm or random.", metavar="NAME"),
    ] = None,
    low_watermark: Annotated[
        str | None,
        typer.Option(
            help=f"Reclaim begins when less is free, {_SIZE}. [default: 1/32 of the memory]",
            metavar="SIZE",
        ),
    ] = None,
    high_watermark: Annotated[
        str | None,
        typer.Option(
            help=f"Reclaim ends when so much is free, {_SIZE}. [default: 1/16 of the memory]",
            metavar="SIZE",
        ),
    ] = None,
    overcommit_paging: Annotated[
        bool,
        typer.Option(
            "--overcommit-paging", help="Open guests without a slot for each of their pages."
        ),
    ] = False,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where SIGTERM leaves a checkpoint and the next host finds it.",
            metavar="DIRECTORY",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Record the run there, for `essa races replay DIRECTORY`; its guests record too.",
            metavar="DIRECTORY",
        ),
    ] = None,
    pid_file: Annotated[
        Path | None,
        typer.Option(
            help="Where to write which process this is, for essa ctl inject kill and the like.",
            metavar="FILE",
            envvar="ESSA_HOST_PID_FILE",
            show_envvar=False,
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(help="debug, info, warning or error. [default: info]", metavar="LEVEL"),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            help="auto, json or text; auto is text on a terminal. [default: auto]",
            metavar="FORMAT",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Serve /metrics for Prometheus there: HOST:PORT. [default: nowhere]",
            metavar="ADDRESS",
        ),
    ] = None,
    insecure_metrics: Annotated[
        bool,
        typer.Option(
            "--insecure-metrics", help="Allow --metrics where other machines can read them."
        ),
    ] = False,
    tls: Annotated[
        Path | None,
        typer.Option(
            help="cert.pem, key.pem and ca.pem of this host: TCP addresses take only peers with "
            "a certificate. [default: $ESSA_TLS, or none]",
            metavar="DIRECTORY",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Allow addresses that other machines can reach, unencrypted."
        ),
    ] = False,
) -> int:
    """Run a host: its guests share one pool of frames, smaller than they are together."""
    given = {
        "listen": listen or None,
        "control": control,
        "memory": memory,
        "paging_file": paging_file,
        "paging_size": paging_size,
        "policy": policy,
        "low_watermark": low_watermark,
        "high_watermark": high_watermark,
        "overcommit_paging": overcommit_paging or None,
        "state_dir": state_dir,
        "record": record,
        "log_level": log_level,
        "log_format": log_format,
        "metrics": metrics,
        "insecure_metrics": insecure_metrics or None,
        "insecure": insecure or None,
        "tls": tls,
    }
    configuration = config.parse({k: v for k, v in given.items() if v is not None})
    if pid_file is not None:
        write_pid_file(pid_file)
    return daemon.run(configuration)
