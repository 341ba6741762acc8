"""`essa trace`: record, import and measure traces of file accesses."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from essa_cli.curveplot import svg_plot, text_plot
from essa_cli.errors import CliError
from guest_agent.workload import formats, recorder, stackdist, tracefile
from guest_agent.workload.events import Trace, TraceError
from guest_agent.workload.formats.base import ID_UNITS, Options
from shared.arch import PAGE_SIZE

trace_app = typer.Typer(
    name="trace",
    help="Record, import and measure traces of file accesses. docs/TRACES.md has the formats.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(trace_app)


@contextmanager
def _bad_input() -> Iterator[None]:
    """Turn what is wrong with a trace into one line and exit code 2."""
    try:
        yield
    except TraceError as error:
        raise CliError(str(error)) from error
    except MemoryError as error:
        raise CliError("the trace does not fit into this machine's memory") from error


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
FormatOption = Annotated[
    str,
    typer.Option("--format", help=f"auto (by content), {', '.join(formats.FORMATS)}."),
]
BlockOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Bytes of a block: arc and spc 512, lirs 4096 if not given.", metavar="BYTES"
    ),
]
ShiftOption = Annotated[
    int, typer.Option(help="Sectors added to every place: aligns a partition to pages.")
]
UnitOption = Annotated[
    str | None,
    typer.Option(help=f"What object ids of csv and oracle-general are: {', '.join(ID_UNITS)}."),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        help='Columns of csv, from 1: "time-col=2, obj-id-col=5, obj-size-col=4, op-col=3".'
    ),
]
ActionOption = Annotated[
    str | None, typer.Option(help="blkparse action to take: Q, D or C; else the first found.")
]


def _options(
    format_name: str,
    block_bytes: int | None,
    sector_shift: int,
    id_unit: str | None,
    columns: str | None,
    action: str | None,
) -> Options:
    if format_name not in ("auto", *formats.FORMATS):
        raise CliError(f"--format {format_name}: it must be auto or {', '.join(formats.FORMATS)}")
    if id_unit not in (None, *ID_UNITS):
        raise CliError(f"--id-unit {id_unit}: it must be {', '.join(ID_UNITS)}")
    return Options(
        block_bytes=block_bytes,
        sector_shift=sector_shift,
        id_unit=id_unit,
        columns=columns,
        action=action,
    )


@trace_app.command("list", epilog="Example: essa trace list")
def list_traces(as_json: JsonOption = False) -> None:
    """Name the traces that come with the program; commands take them by name."""
    rows = []
    with _bad_input():
        for name, path in tracefile.shipped().items():
            trace = tracefile.load(path)
            counts = stackdist.count(trace)
            rows.append(
                {
                    "name": name,
                    "requests": counts.requests,
                    "accesses": counts.accesses,
                    "unique_pages": stackdist.page_runs(trace).unique_count,
                    "write_share": _share(counts.write_requests, counts.requests),
                    "file_bytes": path.stat().st_size,
                    "origin": trace.origin,
                }
            )
    if as_json:
        print(json.dumps({"traces": rows}, indent=2))
        return
    print(f"{'name':<10} {'requests':>9} {'accesses':>9} {'pages':>7} {'writes':>7}  origin")
    for row in rows:
        print(
            f"{row['name']:<10} {row['requests']:>9} {row['accesses']:>9} "
            f"{row['unique_pages']:>7} {row['write_share']:>7.1%}  {row['origin']}"
        )


@trace_app.command(
    "record",
    context_settings={"allow_interspersed_args": False},
    epilog="Example: essa trace record -o search.essa-trace -- grep -r main src",
)
def record_trace(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: NAME.essa-trace, here.")
    ] = None,
    origin: Annotated[
        str, typer.Option(help="Where the trace comes from, in words, kept in it.")
    ] = "",
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Call all files file-N; else no path is absolute.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run COMMAND under strace and keep its file accesses, page by page.

    The exit code is the command's own; 128 and more if a signal ended it; 2 if nothing could be
    recorded. With --json the command's standard output goes to standard error.
    """
    name = Path(command[0]).name
    target = output or Path(f"{name}{tracefile.SUFFIX}")
    if not target.absolute().parent.is_dir():
        raise CliError(f"{target}: its folder does not exist")
    with _bad_input():
        done = recorder.record(
            command,
            anonymous=anonymous,
            origin=origin or f"strace of {name}",
            output_to_stderr=as_json,
        )
        tracefile.save(target, done.trace)
    if done.lost_count:
        print(
            f"essa: {done.lost_count} calls are left out: strace did not show where their "
            "process came from",
            file=sys.stderr,
        )
    _tell_saved(target, done.trace, as_json, {"command_status": done.status}, to=sys.stderr)
    raise typer.Exit(done.status)


@trace_app.command(
    "import", epilog="Example: essa trace import hm_0.csv.gz hm_0.essa-trace --format msr"
)
def import_trace(
    source: Annotated[str, typer.Argument(metavar="IN", show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="OUT", show_default=False)],
    format_name: FormatOption = "auto",
    block_bytes: BlockOption = None,
    sector_shift: ShiftOption = 0,
    id_unit: UnitOption = None,
    columns: ColumnsOption = None,
    action: ActionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a trace of another format into OUT, an .essa-trace file.

    gzip, bzip2 and xz are unpacked. A malformed line or record is named, with exit code 2.
    """
    options = _options(format_name, block_bytes, sector_shift, id_unit, columns, action)
    with _bad_input():
        trace = formats.read_trace(tracefile.resolve(source), format_name, options)
        tracefile.save(target, trace)
    _tell_saved(target, trace, as_json, {}, to=sys.stdout)


@trace_app.command("stat", epilog="Example: essa trace stat compile --svg compile.svg")
def stat_trace(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="A file of any format, or a shipped name.")
    ],
    format_name: FormatOption = "auto",
    svg: Annotated[Path | None, typer.Option(help="Write the curve as SVG to this file.")] = None,
    block_bytes: BlockOption = None,
    sector_shift: ShiftOption = 0,
    id_unit: UnitOption = None,
    columns: ColumnsOption = None,
    action: ActionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count what a trace holds and how an LRU cache of any size would do on it, exactly."""
    options = _options(format_name, block_bytes, sector_shift, id_unit, columns, action)
    with _bad_input():
        path = tracefile.resolve(source)
        trace = formats.read_trace(path, format_name, options)
        progress = _Progress()
        curve = stackdist.lru_curve(trace, progress)
        progress.end()
    counts = stackdist.count(trace)
    name = path.name.removesuffix(tracefile.SUFFIX)
    if svg is not None:
        _write_svg(svg, curve, f"{name}: LRU miss ratio")
    if as_json:
        print(json.dumps(_stat_json(name, trace, counts, curve), indent=2))
    else:
        _print_stat(name, trace, counts, curve)


_REDRAW_SECONDS: Final = 0.2
_QUIET_SECONDS: Final = 2.0
_LINE_SECONDS: Final = 10.0


class _Progress:
    """Tells on standard error how far the count is, once it takes more than two seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _QUIET_SECONDS
        self._live = sys.stderr.isatty()
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next or done == total:
            return
        self._next = now + (_REDRAW_SECONDS if self._live else _LINE_SECONDS)
        self._shown = True
        text = f"counting: {done / total:.0%} of {total:,} accesses"
        print(f"\r{text}" if self._live else text, end="" if self._live else "\n", file=sys.stderr)
        sys.stderr.flush()

    def end(self) -> None:
        """Wipe the line."""
        if self._shown and self._live:
            print("\r\x1b[K", end="", file=sys.stderr)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _write_svg(path: Path, curve: stackdist.LruCurve, title: str) -> None:
    try:
        path.write_text(svg_plot(lambda at: curve.miss_ratio(curve.size_at(at)), title))
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error


def _stat_json(
    name: str, trace: Trace, counts: stackdist.Counts, curve: stackdist.LruCurve
) -> dict[str, Any]:
    sizes = {str(percent): curve.size_at(percent) for percent in stackdist.PERCENTS}
    return {
        "trace": name,
        "origin": trace.origin,
        "events": counts.events,
        "requests": counts.requests,
        "accesses": counts.accesses,
        "unique_pages": curve.unique_count,
        "footprint_bytes": curve.unique_count * PAGE_SIZE,
        "write_share": _share(counts.write_requests, counts.requests),
        "write_share_accesses": _share(counts.write_accesses, counts.accesses),
        "processes": counts.processes,
        "files": counts.files,
        "span_seconds": counts.span_seconds,
        "cache_pages": sizes,
        "misses": {percent: curve.misses(size) for percent, size in sizes.items()},
        "lru_miss_ratio": {percent: curve.miss_ratio(size) for percent, size in sizes.items()},
        "cold_miss_ratio": curve.miss_ratio(curve.unique_count),
        "curve": [
            {
                "percent": percent,
                "cache_pages": curve.size_at(percent),
                "misses": curve.misses(curve.size_at(percent)),
            }
            for percent in range(1, 101)
        ],
    }


def _print_stat(
    name: str, trace: Trace, counts: stackdist.Counts, curve: stackdist.LruCurve
) -> None:
    mebibytes = curve.unique_count * PAGE_SIZE / (1 << 20)
    print(f"trace        {name}" + (f" ({trace.origin})" if trace.origin else ""))
    print(f"requests     {counts.requests:,} ({counts.events:,} events)")
    print(f"accesses     {counts.accesses:,} pages of 4 KiB")
    print(f"unique       {curve.unique_count:,} pages, footprint {mebibytes:.1f} MiB")
    writes = _share(counts.write_requests, counts.requests)
    pages = _share(counts.write_accesses, counts.accesses)
    print(f"writes       {writes:.1%} of the requests, {pages:.1%} of the accesses")
    print(f"made by      {counts.processes:,} processes on {counts.files:,} files or disks")
    if counts.span_seconds is not None:
        print(f"time span    {counts.span_seconds:,.3f} s")
    print()
    print("LRU cache    " + "".join(f"{percent:>11} %" for percent in stackdist.PERCENTS))
    sizes = [curve.size_at(percent) for percent in stackdist.PERCENTS]
    print("  pages      " + "".join(f"{size:>13,}" for size in sizes))
    print("  misses     " + "".join(f"{curve.misses(size):>13,}" for size in sizes))
    print("  miss ratio " + "".join(f"{curve.miss_ratio(size):>13.4f}" for size in sizes))
    print(f"  cold       {curve.miss_ratio(curve.unique_count):>13.4f}")
    print()
    print("miss ratio")
    for line in text_plot(lambda at: curve.miss_ratio(curve.size_at(at))):
        print(line)


def _tell_saved(path: Path, trace: Trace, as_json: bool, more: dict[str, int], *, to: Any) -> None:
    counts = stackdist.count(trace)
    size = path.stat().st_size
    if as_json:
        told = {
            "file": str(path),
            "file_bytes": size,
            "events": counts.events,
            "requests": counts.requests,
            "accesses": counts.accesses,
            **more,
        }
        print(json.dumps(told, indent=2))
        return
    print(
        f"{path}: {counts.requests:,} requests, {counts.accesses:,} page accesses, "
        f"{counts.files:,} files, {size:,} bytes ({size / max(1, counts.events):.1f} an event)",
        file=to,
    )
