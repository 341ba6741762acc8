"""Logging of the daemons: structlog, set up once by each main program.

Rules:
- Only shells and main programs log; core, kernel, session and explorer return what happened.
- Events are past tense and snake_case (`guest_opened`), values are keywords.
- A terminal gets lines for people, anything else one JSON object a line; both on standard
  error, because standard output belongs to results.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

import structlog

LEVELS: Final = ("debug", "info", "warning", "error")


def configure(
    *, level: str = "info", json: bool | None = None, stream: TextIO | None = None
) -> None:
    """Set structlog up for this process. json: None decides by whether `stream` is a terminal."""
    out = sys.stderr if stream is None else stream
    as_json = not out.isatty() if json is None else json
    shape: list[structlog.typing.Processor] = (
        [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
        if as_json
        else [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # locals may hold a token
            ),
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *shape,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def _number(level: str) -> int:
    assert level in LEVELS, level
    return int(logging.getLevelNamesMapping()[level.upper()])


def logger(**values: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger with these values in every event."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(**values)
    return bound


@contextmanager
def bound(**values: Any) -> Iterator[None]:
    """Add these values to every event logged inside, in this task and those it starts."""
    with structlog.contextvars.bound_contextvars(**values):
        yield
