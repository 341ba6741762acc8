"""The README's tour is true: its shell blocks run in order, as printed, in one shell.

Method: blocks marked `sh` make up one script; it must end with status 0, and what the text
promises must stand in its output. `sh no-test` blocks are whole suites (`make demo`, `test`,
`bench`). `sh needs-TOOL` blocks need a program: without strace a test is skipped, and says
so; for grpcurl a stand-in takes its place that knows the host by reflection alone; those that
need docker are run by .ci/cluster, which has an engine.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```sh *([^\n]*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
KINDS = {"", "no-test", "needs-docker", "needs-grpcurl", "needs-strace"}
_TRAP = "trap 'echo FAILED: $BASH_COMMAND' ERR"
SECONDS_MAX = 900
"""A minute on an idle machine; the tour must end on a busy one too, several times slower."""


def _script(*kinds: str) -> str:
    return "\n".join(body for kind, body in BLOCKS if kind in kinds)


def _environment(tmp_path: Path) -> dict[str, str]:
    """This interpreter's commands first, and a stand-in for grpcurl if there is none."""
    path = [str(Path(sys.executable).parent), os.environ["PATH"]]
    if shutil.which("grpcurl") is None:
        tool = tmp_path / "bin" / "grpcurl"
        tool.parent.mkdir()
        standin = Path(__file__).with_name("grpcurl_standin.py")
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{standin}" "$@"\n')
        tool.chmod(0o755)
        path.append(str(tool.parent))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ESSA_", "PYTEST_"))}
    return {**clean, "PATH": ":".join(path), "TMPDIR": str(tmp_path)}


def _run(script: str, tmp_path: Path) -> str:
    """Run a script in the checkout; returns its output. Leaves no process behind."""
    log = tmp_path / "tour.log"
    with log.open("w") as out:
        # The tour's own processes are in the shell's session, and end with it.
        shell = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", "-c", f"{_TRAP}\n{script}"],
            cwd=ROOT,
            env=_environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            shell.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            out.write(f"\nFAILED: not through after {SECONDS_MAX} seconds")
        finally:
            left_over = _end_session(shell.pid)
            shell.wait()
    output = log.read_text()
    assert "FAILED:" not in output, output
    assert shell.returncode == 0, output
    assert not left_over, f"the tour leaves processes behind:\n{output}"
    return output


def _end_session(pid: int) -> bool:
    """Whether any process of the shell's session was still there."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.process
def test_the_tour_runs_as_printed(tmp_path: Path) -> None:
    output = _run(_script("", "needs-grpcurl"), tmp_path)
    # Two guests and a soak; the soak with a guard off may end in something else than a wrong byte.
    assert len(re.findall(r"integrity errors +│ +0 ", output)) >= 3, output
    assert "(as it should)" in output, output
    assert '"faultNumber": "1"' in output, "the load by grpcurl meets a discard fault"
    assert '"address": "28672"' in output, "and its fault names page 7"
    assert "fault_number: 1" in output, "the load from Python meets a discard fault"
    assert "address: 28672" in output
    assert output.count("a page mapped writable was discarded") >= 2, (
        "the lost write, run and replayed"
    )
    assert re.search(r"^reproduced: ", output, re.MULTILINE), output
    assert re.search(r"^reproduced: run: ", output, re.MULTILINE), "and the recorded run"
    assert re.search(r"^holds", output, re.MULTILINE), "and with all guards there is none"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_trace_is_recorded_as_printed(tmp_path: Path) -> None:
    output = _run(f"REPO=$PWD; cd $TMPDIR\n{_script('needs-strace')}", tmp_path)
    assert "requests" in output


def test_every_block_is_run_or_says_why_not() -> None:
    assert {kind for kind, _ in BLOCKS} == KINDS
    fences = (ROOT / "README.md").read_text().count("```")
    assert fences == 2 * len(BLOCKS), "a block that is no `sh` block is not looked at"


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
