"""How often a long-lived process looks for cycles of objects that nobody uses.

Rules:
- What a host or a guest keeps, it keeps for long; what it makes for a message dies by itself.
  So nearly every search of Python's for cycles is in vain, and by default one comes every 700
  objects: an eighth of a busy guest's time.
"""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (20_000, 20, 20)


def collect_seldom() -> None:
    """Search seldom, and never again among what is there now. Once, before the work begins."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
