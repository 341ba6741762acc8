"""Strategies by name, one file each.

Rules:
- Adding a strategy is adding a file, and its class here. `campaign.search` runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from race_explorer.strategies import default, delay, pct, portfolio, pos, random_walk, urw
from race_explorer.strategies.strategy import Strategy

STRATEGIES: Final[dict[str, Callable[[int], Strategy]]] = {
    random_walk.NAME: random_walk.RandomWalk,
    pct.NAME: pct.Pct,
    pos.NAME: pos.Pos,
    urw.NAME: urw.Urw,
    default.NAME: default.Default,
    delay.NAME: delay.Delay,
    portfolio.NAME: portfolio.Portfolio,
}


def make_strategy(name: str, seed: int) -> Strategy:
    """The strategy of that name. Raises ValueError if there is none, or for a seed below 0."""
    if name not in STRATEGIES:
        raise ValueError(f"no strategy is called {name!r}; they are {', '.join(STRATEGIES)}")
    return STRATEGIES[name](seed)
