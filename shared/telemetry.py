"""Logs of both daemons: one line per event on standard error.

Rules:
- Only adapters log; core, kernel and session return what happened.
- An event is a past-tense name in snake_case; values are keywords named as everywhere else.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog

from shared.errors import InvalidRequestError

LEVELS: Final = ("debug", "info", "warning", "error")


def configure_logging(level: str, field: str = "--log-level") -> None:
    """Set up structlog for this process. `field` is named if the level is none of LEVELS."""
    if level not in LEVELS:
        raise InvalidRequestError(
            f"{field} is {level!r}; it must be one of {', '.join(LEVELS)}", field=field, value=level
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
