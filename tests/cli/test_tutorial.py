"""docs/TUTORIAL.md is true: its blocks run in order, in a copy of the tree, and say what it says.

Method: blocks marked `sh` make up one script. Every line of a `text` block must stand in what
the blocks print; spaces count as one, because a picture is as wide as it has to be.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "TUTORIAL.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) *([^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ROOMS = ("shared", "host_daemon", "guest_agent", "race_explorer", "essa_cli", "docs")
MODULES = ("tests/__init__.py", "tests/races/__init__.py", "pyproject.toml")
SECONDS_MAX = 600
"""Half a minute on an idle machine."""


def test_every_block_is_run_or_looked_for() -> None:
    assert {kind for kind, _, _ in BLOCKS} == {"sh", "text"}
    assert PAGE.count("```") == 2 * len(BLOCKS)
    assert [words for _, words, _ in BLOCKS if words] == ["no-test"], "the setup alone"


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


@pytest.mark.process
def test_the_tutorial_runs_as_printed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for room in ROOMS:
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    for module in MODULES:
        (tree / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / module, tree / module)
    script = "\n".join(body for kind, words, body in BLOCKS if kind == "sh" and not words)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ESSA_", "PYTEST_"))}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=tree,
        env={
            **clean,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            # The copy, and not the tree that is installed; git takes it for no part of another.
            "PYTHONPATH": str(tree),
            "GIT_CEILING_DIRECTORIES": str(tmp_path),
            # What an installation from before this plugin does not do by itself.
            "PYTEST_PLUGINS": "essa_cli.pytest_plugin",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("(as it should)") == 2, done.stdout
    printed = " ".join(done.stdout.split())
    promised = [line for kind, _, body in BLOCKS if kind == "text" for line in body.splitlines()]
    assert promised
    missing = [line for line in promised if " ".join(line.split()) not in printed]
    assert not missing, "\n".join([*missing, done.stdout])
