"""Logging of the daemons: structlog, set up once by each main program.

Rules:
- Only shells and main programs log; core, kernel, session and explorer return what happened.
- Events are past tense and snake_case (`guest_opened`), values are keywords.
- Whose event it is, is bound once: `guest` for all that a call or an agent does, `vcpu` for
  what is one vCPU's. Nobody says it again.
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
FORMATS: Final = ("auto", "json", "text")
"""auto: text on a terminal, JSON anywhere else."""


def configure(*, level: str = "info", format: str = "auto", stream: TextIO | None = None) -> None:
    """Set structlog up for this process: one of LEVELS, one of FORMATS."""
    assert format in FORMATS, format
    out = sys.stderr if stream is None else stream
    as_json = format == "json" or (format == "auto" and not out.isatty())
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


def bind(**values: Any) -> None:
    """Add these values to every event that this task, or one it starts, logs from here on."""
    structlog.contextvars.bind_contextvars(**values)


@contextmanager
def bound(**values: Any) -> Iterator[None]:
    """Add these values to every event logged inside, in this task and those it starts."""
    with structlog.contextvars.bound_contextvars(**values):
        yield
