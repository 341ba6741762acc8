"""Where tests find the straight world."""

from race_explorer.straight import Straight

__all__ = ["Straight"]
