"""`essa` as a fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from race_explorer.scenarios import SCENARIOS
from tests.cli.command import Essa


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    """A command makes its user's scenarios known to its process; here others share that one."""
    known = dict(SCENARIOS)
    yield
    SCENARIOS.clear()
    SCENARIOS.update(known)


@pytest.fixture
def essa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Essa:
    return Essa(monkeypatch, capsys)
