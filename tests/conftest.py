"""What every test begins with: the logging of no earlier one."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import structlog

# A job in the background of a shell is deaf to SIGINT, and so would be all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logging_of_its_own() -> Iterator[None]:
    """A command that ran in this process set logging up, on a stream that went with its test."""
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
