"""What is compiled, if there was a C compiler where the host was installed.

Rules:
- Whoever uses it has a way to do the same without it, one page at a time.
"""

from __future__ import annotations

from types import ModuleType

ESSA_PASS: ModuleType | None
"""`run` and `free`, see _essa_pass.c; None: not built, and arrays are a hundred times slower."""
try:
    from host_daemon.core import _essa_pass
except ImportError:
    ESSA_PASS = None
else:
    ESSA_PASS = _essa_pass
