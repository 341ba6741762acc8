"""`python -m bench [--json FILE]`: measure, show a table, perhaps write it down."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import grpc
import uvloop
from rich.console import Console

from bench import memory
from bench.arrays import SPARE_FRAMES, Arrays
from bench.client import control_stub, guest_stub
from bench.gathered import GATHERED_PAGES, Gathered
from bench.processes import ServerError, echo_server, host_server
from bench.progress import Begins, shown
from bench.report import Results, table
from bench.settings import Settings
from bench.unary import Unary

TABLE_WIDTH: Final = 150
PARTS: Final = 3
"""Comparisons; each has a step to prepare it and one for each round."""


def step_count(settings: Settings) -> int:
    """How often `measure` says that a step begins."""
    return 1 + PARTS * (1 + settings.rounds)


async def measure(settings: Settings, begins: Begins) -> Results:
    """Run everything; the server processes live as long as it does."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="essa-bench-") as name:
        begins("memory of the host")
        memory_result = await memory.measure(Path(name), settings)
        unary, arrays, gathered = await _compare(Path(name), settings, begins)
    return Results(
        unary=(unary.single, unary.several),
        arrays=arrays.comparison,
        slots_held=arrays.slots_held,
        refused=arrays.refused,
        gathered=gathered.comparison,
        alone=gathered.alone,
        memory=memory_result,
        seconds=time.perf_counter() - begun,
    )


async def _compare(
    directory: Path, settings: Settings, begins: Begins
) -> tuple[Unary, Arrays, Gathered]:
    listen, control, baseline = (f"unix:{directory / name}" for name in ("g", "c", "e"))
    frames = settings.resident_pages + GATHERED_PAGES + SPARE_FRAMES
    options = ("--memory", str(frames), "--low-watermark", "1", "--high-watermark", "1")

    async def rounds(name: str, one: Callable[[int], Awaitable[None]]) -> None:
        for number in range(settings.rounds):
            begins(name)
            await one(number)

    with ExitStack() as servers:
        servers.enter_context(host_server(listen, control, *options))
        servers.enter_context(echo_server(baseline))
        async with (
            guest_stub(listen) as host,
            control_stub(control) as operators,
            guest_stub(baseline) as echo,
        ):
            begins("unary ESSA")
            unary = Unary(host, echo, settings)
            await unary.prepare()
            await rounds("unary ESSA", unary.round)
            begins("gathered vCPUs")
            gathered = Gathered(host, settings)
            async with gathered.prepared():
                await rounds("gathered vCPUs", gathered.round)
            begins("arrays of ESSAs")
            arrays = Arrays(host, operators, echo, settings)
            async with arrays.prepared():
                await rounds("arrays of ESSAs", arrays.round)
    return unary, arrays, gathered


def run(settings: Settings, json_file: Path | None) -> Results:
    """Measure with a bar on standard error; the table goes to standard output."""
    with shown(step_count(settings), 18) as begins:
        results = uvloop.run(measure(settings, begins))
    Console(width=max(Console().width, TABLE_WIDTH)).print(table(results))
    if json_file is not None:
        json_file.write_text(json.dumps(results.as_json(), indent=2) + "\n")
    return results


def main(arguments: list[str] | None = None) -> int:
    """Missed targets are shown, not punished: a machine may be busy with other things."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything here")
    json_file: Path | None = parser.parse_args(arguments).json
    if json_file is not None and not json_file.absolute().parent.is_dir():
        print(f"bench: {json_file.parent} is no directory", file=sys.stderr)
        return 2
    try:
        run(Settings(), json_file)
    except (ServerError, grpc.aio.AioRpcError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
