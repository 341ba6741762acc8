"""The scenario library: one readable file a race, the story in its docstring.

Rules:
- A scenario is a module in this package with a SCENARIO, named after it with underscores for
  dashes. Adding one is adding that file.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

from race_explorer.scenarios.scenario import Scenario


def _library() -> dict[str, Scenario]:
    """All scenarios by name, sorted."""
    modules = [
        importlib.import_module(f"{__name__}.{found.name}")
        for found in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name)
    ]
    scenarios = [module.SCENARIO for module in modules if hasattr(module, "SCENARIO")]
    return {scenario.name: scenario for scenario in scenarios}


SCENARIOS: Final = _library()
