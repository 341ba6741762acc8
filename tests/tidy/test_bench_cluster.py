"""The bench of many guests works and says what it promises to say; how fast, is not asked."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cluster import instructions, measures, up
from bench.cluster.__main__ import main
from bench.cluster.instructed import SIDES, execute
from bench.cluster.load import between


@pytest.mark.process
def test_a_tiny_run_prints_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--guests", "1,2", "--seconds", "0.5", "--warm", "0", "--idle", "2", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [one["guests"] for one in printed["crowds"]] == [1, 2]
    for one in printed["crowds"]:
        assert one["requests_per_second"] > 0
        assert one["commands_per_second"] > 0
        assert 0 < one["unary_p50_ms"] <= one["unary_p99_ms"]
        assert one["errors"] == 0
    assert 0 < printed["most_guests_vs_best"] <= 1
    assert 0 <= printed["bytes_per_idle_guest"] < 16 << 20


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--guests", "4,x"], "it must be numbers from 1 to 256"),
        (["--guests", "0"], "it must be numbers from 1 to 256"),
        (["--seconds", "never"], "it must be 0 to 3600"),
        (["--seconds", "9999"], "it must be 0 to 3600"),
    ],
)
def test_bad_input_is_told(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_rates_are_each_over_their_own_time() -> None:
    names = ("requests", "commands", "messages", "discard_faults", "errors")
    zero = {"at": 10.0} | dict.fromkeys(names, 0.0)
    one = {"at": 12.0} | dict.fromkeys(names, 8.0)
    other = {"at": 14.0} | dict.fromkeys(names, 8.0)
    done = between([zero, zero], [one, other])
    assert (done.requests, done.commands, done.errors) == (6.0, 6.0, 16)


def test_percentiles_are_times_that_were_measured() -> None:
    times = [n / 1000 for n in range(1, 101)]
    assert measures.percentile(times, 0.5) == 0.051
    assert measures.percentile(times, 0.99) == 0.1
    assert measures.percentile([0.5], 0.99) == 0.5


@pytest.fixture
def _as_before() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("side", SIDES)
def test_what_is_counted_runs(side: str) -> None:
    asyncio.run(execute(side, 80))


def test_without_valgrind_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert instructions.main([]) == 2
    assert capsys.readouterr().err == ("bench.cluster.instructions: valgrind is not installed\n")


def test_a_directory_without_a_checkout_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "valgrind")
    assert instructions.main(["--before", str(tmp_path)]) == 2
    assert "is no checkout" in capsys.readouterr().err


def test_percentages_are_over_the_plain_side_and_over_before() -> None:
    numbers = (1000, 1010, 1030, 1200, 206, 7)
    figures = dict(zip(SIDES, numbers, strict=True))
    told = instructions.as_json(figures, {"link": 200})
    assert told["percent_over_plain"] == {
        "plain": 0.0,
        "metrics": 1.0,
        "scraped": 3.0,
        "watched": 20.0,
    }
    assert told["percent_over_before"] == {"link": 3.0}
    assert instructions.table(figures, {"link": 200}).row_count == len(SIDES)


LOG = """\
host_1 | essa host ready: listen=0.0.0.0:7000
host_1 | {"event": "guest_opened", "guest": "b", "timestamp": "2026-01-02T03:04:06.500000Z"}
host_1 | {"event": "guest_opened", "guest": "a", "timestamp": "2026-01-02T03:04:05.000000Z"}
host_1 | {"event": "guest_closed", "guest": "a", "timestamp": "2026-01-02T03:04:07.000000Z"}
"""


def test_when_guests_were_opened_stands_in_the_hosts_log() -> None:
    first, last = up.opened(LOG)
    assert last - first == 1.5


def test_the_time_of_a_start_needs_compose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert up.main([]) == 1
    assert "docker-compose is not there" in capsys.readouterr().err
    assert up.main(["--guests", "0"]) == 2
    assert "--guests is 0; it must be 1 to 64" in capsys.readouterr().err
