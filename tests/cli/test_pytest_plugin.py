"""The fixture `races`: a test of twenty lines passes, fails with a picture, and can be replayed.

Method: the tests under test are files of their own, run by a pytest of their own.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli.command import Essa

pytest_plugins = ("pytester",)

ROOT = Path(__file__).parents[2]
PLUGIN = "essa_cli.pytest_plugin"
SCENARIO = '''
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_read
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections
from race_explorer.world import SimWorld


def asked_and_set(protections: Protections) -> SimWorld:
    """One vCPU makes a cached page stable, and the host wants its frame."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        await sys_read(kernel.cpus[0], file, 0, 1)

    async def stabilise(cpu: Cpu) -> None:
        await sys_read(cpu, file, 0, 1)
        world.mark("read")

    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, stabilise)
    return world
'''


def _run(pytester: pytest.Pytester, tests: str, *words: str) -> pytest.RunResult:
    pytester.makepyfile(test_mine=SCENARIO + tests)
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\n")
    return pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider", *words)


def test_what_holds_passes_and_writes_nothing(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
def test_it(races):
    verdict = races.hold(asked_and_set, sometimes=("read",))
    assert verdict.figures["exhausted"]
""",
    )
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "race-replays").exists()


def test_what_fails_shows_verdict_picture_and_a_command_that_works(
    pytester: pytest.Pytester,
) -> None:
    result = _run(
        pytester,
        """
def test_it(races):
    races.hold(asked_and_set, without="stable_if_resident")
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["race replays: *race-replays", "violated: *", "*cpu0*host*"])
    # Twice where pytest knows that it runs in CI: its summary then tells the failure whole.
    (line,) = {line for line in result.outlines if line.startswith("replay: essa races replay ")}
    program, *words = shlex.split(line.removeprefix("replay: "))
    assert program == "essa"
    done = subprocess.run(
        [sys.executable, "-m", "essa_cli", *words],
        cwd=pytester.path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reproduced: ")


def test_a_violation_may_be_what_a_test_expects(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
def test_it(races):
    found = races.violated(asked_and_set, without="stable_if_resident", strategy="pos")
    assert found.file.exists()
    assert "conflict" in found.picture

def test_other_damage(races):
    races.violated(asked_and_set, without="stable_if_resident", damage="live-lock")

def test_none(races):
    races.violated(asked_and_set)

def test_one_of_the_library(races):
    races.violated("dirty-bit-in-transit", without="hold_reference", damage="in use")
""",
        "--race-replays",
        "found",
    )
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*a violation with 'live-lock' was expected*"])
    result.stdout.fnmatch_lines(["*a violation was expected without anything*"])
    assert len(list((pytester.path / "found").iterdir())) == 3


def test_what_cannot_be_said_is_no_pass(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
def test_too_few(races):
    races.hold(asked_and_set, schedules=1)

def test_never_there(races):
    races.hold(asked_and_set, sometimes=("elsewhere",))
""",
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["inconclusive: 1 schedule tried, more are left"])
    result.stdout.fnmatch_lines(["inconclusive: never reached: elsewhere"])


def test_pytest_finds_the_plugin_by_itself_and_does_not_load_the_explorer() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {PLUGIN}; print('race_explorer' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "False"


def test_scenarios_of_ones_own_are_run_by_the_command(essa: Essa, tmp_path: Path) -> None:
    file, saved = tmp_path / "mine.py", tmp_path / "found.essa-replay"
    file.write_text(SCENARIO, encoding="utf-8")
    words = ("races", "run", "asked-and-set", "--scenarios", str(file))
    assert essa(*words).code == 0
    ended = essa(*words, "--without", "stable_if_resident", "--save", str(saved))
    assert ended.code == 1, ended.err
    replay = ("races", "replay", str(saved), "--scenarios", str(file))
    assert essa(*replay).out.startswith("reproduced: ")


@pytest.mark.parametrize("text", ["1 / 0", "import no_such_module", "def ("])
def test_a_file_that_cannot_be_loaded_is_one_line(essa: Essa, tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text, encoding="utf-8")
    for path in (file, tmp_path / "none.py", tmp_path):
        ended = essa("races", "run", "mine", "--scenarios", str(path))
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
