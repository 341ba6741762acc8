"""What must hold of a run, watched while it goes on: `watch(build)` with ORACLES, or some of them.

Rules:
- What oracles see between two steps depends on the order of steps that do not depend on each
  other; a search that tries one order for many vouches for what they see in that one.
"""

from race_explorer.oracles.oracle import Oracle, Scene, Watcher
from race_explorer.oracles.progress import fairly
from race_explorer.oracles.registry import ALL, ORACLES
from race_explorer.oracles.watching import watch

__all__ = ["ALL", "ORACLES", "Oracle", "Scene", "Watcher", "fairly", "watch"]
