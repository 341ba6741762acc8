"""The pytest plugin: a fixture `races` that searches a scenario and shows what goes wrong.

Rules:
- Nothing of the explorer is imported until a test asks for the fixture.
- Replays go to the folder of --race-replays, and what fails names the file and the command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from essa_cli.pytest_plugin.races import Races

FOLDER = "race-replays"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where replays go."""
    group = parser.getgroup("races")
    group.addoption(
        "--race-replays",
        default=FOLDER,
        metavar="FOLDER",
        help=f"where replays of races that were found are written ({FOLDER})",
    )


def _folder(config: pytest.Config) -> Path:
    return config.invocation_params.dir / str(config.getoption("--race-replays"))


def pytest_report_header(config: pytest.Config) -> str:
    """The folder, for people who look for what was found."""
    return f"race replays: {_folder(config)}"


@pytest.fixture
def races(request: pytest.FixtureRequest) -> Races:
    """Search a scenario: `races.hold(scenario)`, `races.violated(scenario, without=...)`."""
    from essa_cli.pytest_plugin.races import Races

    return Races(_folder(request.config), request.node.name)
