"""Scenarios that stand in a file of the user's, such as a test, and not in the library.

Rules:
- A `Scenario` goes by its name. A function that builds a world goes by its own, with dashes for
  underscores; it is one if it takes a parameter `protections`.
- They are known to this process alone: a replay of one names the scenario, and the command that
  runs it is told the file.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

from essa_cli.errors import CliError
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld

Build = Callable[[Protections], SimWorld]
PREFIX: Final = "essa_scenarios_"
"""Of the module's name, so that it takes nobody's place."""
PARAMETER: Final = "protections"
_LIBRARY: Final = frozenset(SCENARIOS)


def know(scenario: Scenario) -> None:
    """Make it known by its name. Raises ValueError if one of the library has that name."""
    if scenario.name in _LIBRARY and SCENARIOS[scenario.name] is not scenario:
        raise ValueError(f"a scenario of the library is called {scenario.name!r}")
    SCENARIOS[scenario.name] = scenario


def scenario_of(build: Build) -> Scenario:
    """The scenario that a function builds, with nothing said of guards and situations."""
    name = build.__name__.replace("_", "-")
    return Scenario(name, races=(), guards=(), damage=(), sometimes=(), build=build)


def know_file(path: Path) -> None:
    """Make all scenarios of a file known. Raises CliError, in one line, if that cannot be."""
    try:
        for scenario in _scenarios(_loaded(path)):
            know(scenario)
    except ValueError as error:
        raise CliError(f"{path}: {error}") from None


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{PREFIX}{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise CliError(f"{path}: no file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folders = [str(path.parent.resolve()), str(Path.cwd())]
    sys.path[:0] = folders
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever stands in the file
        raise CliError(f"{path}: {type(error).__name__}: {error}") from None
    finally:
        del sys.path[: len(folders)]
    return module


def _scenarios(module: ModuleType) -> list[Scenario]:
    found = [value for value in vars(module).values() if isinstance(value, Scenario)]
    own = [scenario for scenario in found if scenario.name not in _LIBRARY]
    for value in vars(module).values():
        if inspect.isfunction(value) and value.__module__ == module.__name__:
            parameters = list(inspect.signature(value).parameters)
            if parameters == [PARAMETER] and all(value is not s.build for s in own):
                own.append(scenario_of(value))
    return own
