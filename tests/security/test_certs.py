"""The commands of the test authority, and every way in which a directory for --tls is wrong."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from shared.errors import InvalidRequestError
from shared.identity import Identity, Role, parse
from shared.rpc.tls import load_tls
from tests.process.host_process import essa_here
from tests.security.people import People


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("people"))


def refused(*arguments: str) -> str:
    """The one line of a command that refuses its input."""
    result = essa_here(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("essa: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_init_issue_and_show(tmp_path: Path) -> None:
    authority, out = tmp_path / "a", tmp_path / "tls"
    assert essa_here("certs", "init", str(authority)).returncode == 0
    assert stat.S_IMODE((authority / "ca-key.pem").stat().st_mode) == 0o600
    issue = ("certs", "issue", str(authority), "--role", "host", "--name", "h", "--out", str(out))
    assert essa_here(*issue, "--san", "localhost", "--san", "10.0.0.7").returncode == 0
    assert stat.S_IMODE((out / "key.pem").stat().st_mode) == 0o600
    assert load_tls(out, "--tls", (Role.HOST,)).identity == Identity(Role.HOST, "h")
    shown = json.loads(essa_here("certs", "show", str(out / "cert.pem"), "--json").stdout)
    assert shown["identity"] == "essa:host:h"
    assert "essa:host:h" in essa_here("certs", "show", str(out / "cert.pem")).stdout

    assert "nothing is replaced" in refused("certs", "init", str(authority))
    assert "nothing is replaced" in refused(*issue, "--san", "localhost")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--role", "king", "--name", "g"], "--role"),
        (["--role", "guest", "--name", "a b"], "--name is 'a b'; it must be 1 to 64"),
        (["--role", "guest", "--name", "g", "--days", "0"], "--days is 0; it must be 1 to 3650"),
        (["--role", "guest", "--name", "g", "--san", "h"], "nobody calls guests"),
        (["--role", "host", "--name", "h"], "what guests call it is missing"),
        (["--role", "host", "--name", "h", "--san", "no name"], "--san is 'no name'"),
    ],
)
def test_issue_with_bad_input(
    people: People, tmp_path: Path, options: list[str], text: str
) -> None:
    out = tmp_path / "out"
    authority = str(people.authority.directory)
    assert text in refused("certs", "issue", authority, *options, "--out", str(out))
    assert not out.exists()


def test_a_directory_that_is_no_authority(tmp_path: Path) -> None:
    options = ("--role", "guest", "--name", "g", "--out", str(tmp_path / "out"))
    assert "ca.pem cannot be read" in refused("certs", "issue", str(tmp_path), *options)
    assert "holds no certificate" in refused("certs", "show", __file__)


def test_every_wrong_directory_is_named(people: People, tmp_path: Path) -> None:
    def why(path: Path) -> str:
        with pytest.raises(InvalidRequestError) as caught:
            load_tls(path, "--tls", (Role.GUEST,))
        assert str(caught.value).startswith(f"--tls: {path}")
        return str(caught.value)

    def copy(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for file in people.path(Role.GUEST, "g").iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    load_tls(copy("good"), "--tls", (Role.GUEST,))
    assert "is no directory" in why(tmp_path / "absent")
    assert "is of role operator" in why(people.path(Role.OPERATOR, "o"))
    assert "expired at" in why(people.path(Role.GUEST, "old", days_ago=9))
    for file in ("cert.pem", "key.pem", "ca.pem"):
        path = copy(f"without {file}")
        (path / file).unlink()
        assert f"{file} cannot be read: No such file" in why(path)
        (path / file).write_text("nonsense")
        assert f"{file} holds no" in why(path)
    assert "is valid only from" in why(people.path(Role.GUEST, "early", days_ago=-9))
    path = copy("another's key")
    (path / "key.pem").write_bytes((people.path(Role.GUEST, "b") / "key.pem").read_bytes())
    assert "key.pem does not belong to cert.pem" in why(path)
    path = copy("another authority")
    (path / "ca.pem").write_bytes(People(tmp_path / "others").authority.pem)
    assert "is not of the authority" in why(path)


@pytest.mark.parametrize("command", [["host"], ["guest", "--workload", "mixed"], ["ctl", "status"]])
def test_commands_refuse_a_bad_directory(
    people: People, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--tls: absent is no directory" in refused(*command, "--tls", "absent")
    monkeypatch.setenv("ESSA_TLS", "absent")
    assert "--tls: absent is no directory" in refused(*command)
    assert "--insecure is given and so is --tls" in refused(*command, "--insecure")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["host", "--listen"], "--listen"),
        (["host", "--control"], "--control"),
        (["guest", "--workload", "mixed", "--host"], "--host"),
        (["ctl", "guests", "--control"], "--control"),
        (["ctl", "faults", "--control"], "--control"),
        (["ctl", "watch", "--control"], "--control"),
        (["ctl", "inject", "evict", "--guest", "g", "--control"], "--control"),
        (["ctl", "plan", "flaky-network", "--control"], "--control"),
        (["health"], "ADDRESS"),
    ],
)
def test_other_machines_need_tls_or_a_word(command: list[str], option: str) -> None:
    told = refused(*command, "203.0.113.9:7000")
    assert f"{option} is 203.0.113.9:7000" in told
    assert "unless --tls or --insecure is given" in told


def test_the_word_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESSA_INSECURE", "1")
    result = essa_here("health", "203.0.113.9:7000", "--timeout", "0.1")
    assert "unless --tls or --insecure is given" not in result.stderr
    assert "--insecure is given and so is --tls x" in refused("health", "unix:s", "--tls", "x")


@pytest.mark.parametrize(
    "uri", ["", "essa:guest", "essa:guest:", "essa:king:a", "esse:guest:a", "essa:guest:a b"]
)
def test_what_is_no_identity(uri: str) -> None:
    assert parse(uri) is None
    assert parse(Identity(Role.GUEST, "a.b-c_d").uri) == Identity(Role.GUEST, "a.b-c_d")


@pytest.mark.parametrize(
    "command",
    [["certs"], ["certs", "init"], ["certs", "issue"], ["certs", "show"], ["health"]],
)
def test_every_help_has_an_example(command: list[str]) -> None:
    assert f"Example: essa {' '.join(command)}" in essa_here(*command, "--help").stdout
