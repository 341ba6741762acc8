"""Logs: JSON for machines, lines for people, and nothing below the level."""

from __future__ import annotations

import io
import json

import pytest

from shared import telemetry


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_stream_that_is_no_terminal_gets_one_json_object_a_line() -> None:
    out = io.StringIO()
    telemetry.configure(stream=out)
    with telemetry.bound(guest="web"):
        telemetry.logger(vcpu=1).info("guest_opened", pages=3)
    telemetry.logger().debug("unheard")
    (line,) = out.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told == {
        "event": "guest_opened",
        "level": "info",
        "guest": "web",
        "vcpu": 1,
        "pages": 3,
    }


def test_a_terminal_gets_a_line_for_people() -> None:
    out = Terminal()
    telemetry.configure(stream=out, level="debug")
    telemetry.logger().debug("guest_opened", pages=3)
    assert "guest_opened" in out.getvalue()
    assert "{" not in out.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_an_exception_is_told_without_the_values_of_its_locals(stream: io.StringIO) -> None:
    telemetry.configure(stream=stream)
    token = "secret-" + "token"
    try:
        raise ValueError("it broke")
    except ValueError:
        telemetry.logger().exception("guest_failed")
    assert "it broke" in stream.getvalue()
    assert token not in stream.getvalue()
