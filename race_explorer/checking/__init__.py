"""Check mode: what each step really reads and writes, held against what it declares.

Rules:
- Sleep sets, and schedulers that look at dependence, rest on the declared accesses; an undeclared
  one makes "exhausted" a lie. Here it fails the run.
- Product code is not touched: live objects get recording subclasses of their own layout (`lens`),
  their containers are shown through recording views. `places` says which resource is where, and
  what is not recorded.
"""

from race_explorer.checking.checked_world import CheckedWorld, checked
from race_explorer.checking.sampling import check_case

__all__ = ["CheckedWorld", "check_case", "checked"]
