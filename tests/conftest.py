"""What every test begins with: the logging of no earlier one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logging_of_its_own() -> Iterator[None]:
    """A command that ran in this process set logging up, on a stream that went with its test."""
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
