"""What the user can mend is one line that names the option and the bound, and exit code 2."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from essa_cli.main import main
from host_daemon import config
from shared.errors import InvalidRequestError

WRONG: dict[str, tuple[list[str], str]] = {
    "no address": (["--listen", "nonsense"], "--listen is 'nonsense'; it must be unix:PATH or"),
    "no port": (["--listen", "localhost:99999"], "port must be 0 to 65535"),
    "no directory": (["--listen", "unix:absent/e"], "absent is no directory"),
    "a file": (["--listen", "unix:file"], "it exists and is no socket"),
    "no such host": (["--listen", "no.such.host.invalid:1", "--insecure"], "cannot be used"),
    "twice": (["--listen", "unix:e", "--listen", "unix:e"], "a different address"),
    "both": (["--listen", "unix:e", "--control", "unix:e"], "a different address"),
    "open to all": (["--listen", "0.0.0.0:0"], "unless --tls or --insecure is given"),
    "open operators": (["--control", "0.0.0.0:0"], "--control is 0.0.0.0:0"),
    "memory of nothing": (["--memory", "0"], "--memory is 0; it must be 1 to"),
    "memory in words": (["--memory", "much"], "--memory is 'much'"),
    "memory by halves": (["--memory", "5K"], "a multiple of 4K"),
    "memory of a dream": (["--memory", "1000T"], "--memory is 1000T; it must be"),
    "more than there is": (["--memory", "1T"], "--memory is 1T; it must be"),
    "paging of nothing": (["--paging-size", "0"], "--paging-size is 0; it must be 1 to"),
    "paging too large": (["--paging-size", "900T"], "--paging-size is 900T"),
    "watermark": (["--memory", "1M", "--low-watermark", "2M"], "--low-watermark is 2M"),
    "low above high": (["--low-watermark", "9", "--high-watermark", "8"], "at most"),
    "policy": (["--policy", "best"], "--policy is 'best'; it must be one of hints-first"),
    "level": (["--log-level", "loud"], "--log-level is 'loud'; it must be one of debug"),
    "format": (["--log-format", "xml"], "--log-format is 'xml'; it must be one of auto"),
    "metrics": (["--metrics", "unix:m"], "--metrics is unix:m; it must be HOST:PORT"),
    "open metrics": (["--metrics", "0.0.0.0:0"], "unless --insecure-metrics is given"),
    "no such metrics": (["--metrics", "203.0.113.9:1", "--insecure-metrics"], "cannot be used"),
    "state": (["--state-dir", "absent"], "--state-dir is absent; it must be a directory"),
    "paging file": (["--paging-file", "absent/p"], "--paging-file"),
    "paging directory": (["--paging-file", "."], "--paging-file"),
    "not a paging file": (["--paging-file", "file"], "--paging-file"),
    "unknown option": (["--frames", "5"], "--frames"),
}


def essa(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["essa", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("something else\n" * 1000)


@pytest.mark.parametrize(("options", "text"), WRONG.values(), ids=WRONG.keys())
def test_host_options(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    text: str,
) -> None:
    assert essa(monkeypatch, "host", *options) == 2
    out, errors = capfd.readouterr()
    assert out == ""
    assert errors.startswith("essa: ")
    assert errors.count("\n") == 1, errors
    assert text in errors
    assert Path("file").read_text().startswith("something else")


def test_a_port_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert essa(monkeypatch, "host", "--listen", address) == 2
    errors = capfd.readouterr().err
    assert errors == f"essa: --listen {address} cannot be used: it is in use by another process\n"


@pytest.mark.parametrize("command", ["status", "page-map"])
def test_ctl_without_a_host(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    arguments = {"page-map": ["g"]}.get(command, [])
    assert essa(monkeypatch, "ctl", command, *arguments, "--control", "unix:absent") == 2
    errors = capfd.readouterr().err
    assert errors.startswith("essa: --control unix:absent: no host answers there")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["status", "--control", "here"], "--control is 'here'; it must be unix:PATH"),
        (["page-map", "g", "--first", "x"], "--first is 'x'"),
        (["page-map", "g", "--count", "-1"], "--count is '-1'"),
        (["evict", "g"], "PAGES is missing"),
        (["evict", "g", "1", "--all"], "PAGES is missing"),
        (["evict", "g", "9-8"], "PAGES is '9-8'"),
        (["evict", "g", "4294967296"], "PAGES is '4294967296'"),
    ],
)
def test_ctl_arguments(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
) -> None:
    assert essa(monkeypatch, "ctl", *arguments) == 2
    assert text in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["host"],
        ["ctl"],
        ["ctl", "status"],
        ["ctl", "guests"],
        ["ctl", "page-map"],
        ["ctl", "evict"],
    ],
)
def test_every_help_has_an_example(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert essa(monkeypatch, *arguments, "--help") == 0
    assert f"Example: essa {' '.join(arguments)}" in capfd.readouterr().out


def test_options_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESSA_HOST_MEMORY", "8M")
    monkeypatch.setenv("ESSA_HOST_LISTEN", "unix:a localhost:0")
    parsed = config.parse({"policy": "zvm"})
    assert [str(address) for address in parsed.listen] == ["unix:a", "localhost:0"]
    assert parsed.host.frame_count == 2048
    assert parsed.host.slot_count == 4 * 2048
    assert parsed.host.policy == "zvm"
    assert (parsed.host.low_watermark, parsed.host.high_watermark) == (64, 128)
    assert config.parse({"memory": "4M"}).host.frame_count == 1024
    monkeypatch.setenv("ESSA_HOST_OVERCOMMIT_PAGING", "perhaps")
    with pytest.raises(InvalidRequestError, match="--overcommit-paging is 'perhaps'"):
        config.parse({})


@pytest.mark.parametrize(("text", "pages"), [("1", 1), ("4K", 1), ("64M", 16384), ("1 GiB", 0)])
def test_sizes(text: str, pages: int) -> None:
    if pages:
        assert config.parse_pages(text, "--memory", 1 << 20) == pages
    else:
        with pytest.raises(InvalidRequestError, match="--memory"):
            config.parse_pages(text, "--memory", 1 << 20)


def test_the_host_does_not_run_without_assertions(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONOPTIMIZE": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "host_daemon"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
        check=False,
    )
    assert result.returncode == 2
    assert "does not run under python -O" in result.stderr
    assert result.stderr.count("\n") == 1
