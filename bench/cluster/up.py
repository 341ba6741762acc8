"""`python -m bench.cluster.up [--guests 8] [--json]`: how long until the first request is served.

From `docker-compose up` on. Needs an engine, docker-compose and the image of deploy/
(`docker-compose build`). It brings up a project of its own from nothing, volumes included, reads
the host's log, and takes it all down.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

COMPOSE_FILE: Final = Path(__file__).parents[2] / "deploy" / "docker-compose.yml"
PROJECT: Final = "essa-bench-up"
GUESTS_MAX: Final = 64
PATIENCE_SECONDS: Final = 180.0
_POLL_SECONDS: Final = 0.5


class UpError(Exception):
    """A command has failed, or the guests do not come."""


def _run(*command: str) -> str:
    """Its output. Raises UpError."""
    environment = {
        **os.environ,
        "COMPOSE_FILE": str(COMPOSE_FILE),
        "COMPOSE_PROJECT_NAME": PROJECT,
        "DOCKER_CLI_HINTS": "false",
    }
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise UpError(f"{command[0]} is not there") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["it says nothing"]
        raise UpError(f"{' '.join(command[:3])} failed: {lines[-1]}") from None
    return done.stdout


def opened(log: str) -> list[float]:
    """When guests were opened, seconds since the epoch, ascending: from the host's log."""
    times = []
    for line in log.splitlines():
        _, _, text = line.partition("{")
        if '"guest_opened"' in text:
            stamp = json.loads("{" + text)["timestamp"]
            times.append(datetime.fromisoformat(stamp).timestamp())
    return sorted(times)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


def measure(guests: int) -> dict[str, Any]:
    """Seconds from the start of `up` until it returned, one guest was open, and all were."""
    _say(f"bringing up {guests} guests")
    begun = time.time()
    try:
        _run("docker-compose", "up", "--detach", "--no-build", "--scale", f"guest={guests}")
        returned, deadline = time.time(), begun + PATIENCE_SECONDS
        while len(found := opened(_run("docker-compose", "logs", "--no-color", "host"))) < guests:
            if time.time() > deadline:
                raise UpError(f"{len(found)} of {guests} guests after {PATIENCE_SECONDS:g} seconds")
            _say(f"{len(found)} of {guests} guests are open")
            time.sleep(_POLL_SECONDS)
    finally:
        _say("taking all down")
        _run("docker-compose", "down", "--volumes")
    return {
        "guests": guests,
        "load_average": os.getloadavg()[0],
        "seconds_until_up_returned": round(returned - begun, 2),
        "seconds_until_first_request": round(found[0] - begun, 2),
        "seconds_until_all_guests": round(found[-1] - begun, 2),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure once and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster.up", description=__doc__)
    parser.add_argument("--guests", type=int, default=8, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not 1 <= options.guests <= GUESTS_MAX:
        _say(f"--guests is {options.guests}; it must be 1 to {GUESTS_MAX}")
        return 2
    try:
        found = measure(options.guests)
    except UpError as error:
        _say(str(error))
        return 1
    if options.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name.replace('_', ' '):<30} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
