"""The command line in this process: what it prints, and how it ends."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from essa_cli.main import main


@dataclass(frozen=True, slots=True)
class Ended:
    """One command."""

    code: int
    out: str
    err: str


class Essa:
    """Runs `essa` with the words of a command, as `main` does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["essa", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, out, err)
