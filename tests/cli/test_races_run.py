"""`essa races run`: check mode, processes, and the files that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guest_agent.kernel import page_hva
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import Page, PG_locked
from tests.cli.command import Essa

LOST = ("races", "run", "dirty-bit-in-transit", "--without", "stable_before_clear")
SHORT = ("races", "run", "cleared-after-unused")


def test_check_mode_says_nothing_where_all_is_declared(essa: Essa) -> None:
    ended = essa(*SHORT, "--check")
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.startswith("holds: ")


def test_an_undeclared_access_fails_the_run(essa: Essa, monkeypatch: pytest.MonkeyPatch) -> None:
    """The offer looks at a flag without a step of its own."""
    offered = page_hva._discardable

    async def peeking(cpu: Cpu, page: Page, offset: int) -> bool:
        return await offered(cpu, page, offset) and not page.flags & PG_locked

    monkeypatch.setattr(page_hva, "_discardable", peeking)
    words = ("races", "run", "dirty-bit-in-transit", "--schedules", "30")
    plain, checked = essa(*words), essa(*words, "--check")
    assert plain.code == 3, "more schedules are left, and nothing is wrong with these"
    assert checked.code == 1
    assert "not declared" in checked.out.splitlines()[0]
    told = json.loads(essa(*words, "--check", "--json").out)
    assert told["verdict"] == "violated"
    assert any("flags" in line for line in told["undeclared"])


@pytest.mark.parametrize(
    "words",
    [
        ("dirty-bit-in-transit", "--without", "stable_before_clear"),
        ("make-stable-overtakes", "--schedules", "100"),
    ],
)
def test_an_exhaustive_search_says_the_same_from_any_number_of_processes(
    essa: Essa, words: tuple[str, ...]
) -> None:
    one, two = (essa("races", "run", *words, "--json", "--jobs", jobs) for jobs in ("1", "2"))
    assert one.code in (0, 1, 3), one.err
    assert json.loads(one.out) == json.loads(two.out)


def test_a_violation_is_saved_and_drawn_as_a_page(essa: Essa, tmp_path: Path) -> None:
    saved, page = tmp_path / "a b.essa-replay", tmp_path / "page.html"
    ended = essa(*LOST, "--save", str(saved), "--html", str(page))
    assert ended.code == 1
    text = page.read_text(encoding="utf-8")
    assert "dirty-bit-in-transit" in text
    assert "<svg" in text
    assert essa("races", "replay", str(saved)).out.startswith("reproduced: ")


def test_a_page_that_cannot_be_written_is_one_line(essa: Essa, tmp_path: Path) -> None:
    ended = essa(*LOST, "--html", str(tmp_path / "no" / "page.html"))
    assert ended.code == 2
    assert ended.err.count("\n") == 1
