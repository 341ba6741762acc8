"""The same toy in frontrun, if it is there: run in a process of its own, by its own command.

frontrun is no dependency of this project. Any environment that has it will do: its program
`frontrun` is looked for on the path, or given.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.rounds import spread

SCRIPT: Final = Path(__file__).parent / "frontrun_toy.py"
NAME: Final = "frontrun"
TIMEOUT_SECONDS: Final = 300


class MissingError(Exception):
    """frontrun cannot be run; the message is one line."""


@dataclass(slots=True)
class Frontrun:
    """What the rounds gave. program: of an environment that has frontrun.

    rates: schedules per processor second by way to explore. found_after: schedules up to the
    first loss, 0 if there was none among them.
    """

    program: Path
    schedules: int
    rates: dict[str, list[float]] = field(default_factory=dict)
    found_after: dict[str, list[int]] = field(default_factory=dict)

    def round(self, number: int) -> None:
        """Explore in every way. Raises MissingError if it does not work."""
        python = self.program.parent / "python"
        command: list[str | Path] = [self.program, python, SCRIPT]
        command += [str(self.schedules), str(number)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS
            )
            measured: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
            line = str(error).partition("\n")[0]
            raise MissingError(f"{NAME} does not run as {self.program}: {line}") from None
        for name, one in measured.items():
            self.rates.setdefault(name, []).append(one["schedules"] / one["seconds"])
            self.found_after.setdefault(name, []).append(one["found_after"])

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            name: {
                "schedules_per_second": spread(rates).as_json(),
                "found_after": self.found_after[name],
            }
            for name, rates in self.rates.items()
        }


def find(given: Path | None) -> Path:
    """Where its program is. Raises MissingError."""
    if given is not None:
        if not given.is_file():
            raise MissingError(f"{given} is no file")
        return given.absolute()
    found = shutil.which(NAME)
    if found is None:
        raise MissingError(f"{NAME} is not installed; its toy is left out")
    return Path(found)
