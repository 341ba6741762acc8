"""`essa` as a fixture."""

from __future__ import annotations

import pytest

from tests.cli.command import Essa


@pytest.fixture
def essa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Essa:
    return Essa(monkeypatch, capsys)
