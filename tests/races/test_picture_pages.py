"""The HTML page: one file that fetches nothing, says what the recording says, and escapes it.

Method: the page is parsed as a browser would, strictly; what is embedded is compared with the
recording. With `-m browser` a headless chromium runs it too, and has to be there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from fnmatch import fnmatch
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from guest_agent.kernel.page import writes
from race_explorer.pictures.document import document, recorded
from race_explorer.pictures.html import html
from race_explorer.pictures.story import Shown, Story
from tests.races.stories import GONE, R4, R17, R22, by_hand, flipped, step, story

ROOT = Path(__file__).parents[2]
VOID = {"meta", "input", "br", "link", "img", "hr"}
PAGE_FILES = sorted(
    entry.name for entry in (files("race_explorer.pictures") / "page").iterdir() if entry.is_file()
)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;<!--"


class _Reader(HTMLParser):
    """Elements have to be closed in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[int, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text[len(self.tags) - 1] = self.text.get(len(self.tags) - 1, "") + data


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def _embedded(page: str) -> dict[str, Any]:
    reader = _read(page)
    (place,) = [i for i, (_, attrs) in enumerate(reader.tags) if attrs.get("id") == "data"]
    found: dict[str, Any] = json.loads(reader.text[place])
    return found


STORIES = [
    pytest.param(flipped, id="flipped"),
    pytest.param(lambda: story(*R17), id="fault"),
    pytest.param(lambda: story(*R22), id="interrupt"),
]


@pytest.mark.parametrize("told", STORIES)
def test_the_page_is_well_formed_and_fetches_nothing(told: Any) -> None:
    page = html(told())
    reader = _read(page)
    assert page.startswith("<!doctype html>")
    assert not re.search(r"\b(?:https?|ftp|wss?)?://", page), "no address of anything"
    for tag, attributes in reader.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
        assert not {"src", "href", "srcset", "action"} & set(attributes), (tag, attributes)
    assert "url(" not in page.replace("url(#hatch)", "")
    (policy,) = [a["content"] for t, a in reader.tags if "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("told", STORIES)
def test_what_is_embedded_is_the_recording(told: Any) -> None:
    whole: Story = told()
    data = _embedded(html(whole))
    assert data == json.loads(json.dumps(document(whole)))
    shown: dict[str, Shown | None] = {
        "failing": whole.failing,
        "raw": whole.raw,
        "passing": whole.passing,
    }
    assert [run["name"] for run in data["runs"]] == [n for n, run in shown.items() if run]
    for run in data["runs"]:
        one = shown[run["name"]]
        assert one is not None
        assert tuple(run["violations"]) == one.recording.violations
        assert [_recorded_part(entry) for entry in run["steps"]] == [
            json.loads(json.dumps(recorded(entry))) for entry in one.recording.steps
        ]
    for guard in whole.off:
        assert (guard.does, guard.source) in [(g["does"], g["source"]) for g in data["off"]]
    assert data["about"] == whole.about
    assert (data["replay"], data["token"]) == (whole.replay_command, whole.token)


def _recorded_part(entry: dict[str, Any]) -> dict[str, Any]:
    fields = recorded(flipped().failing.recording.steps[0])
    return {name: entry[name] for name in fields}


def test_recorded_steps_lose_nothing() -> None:
    entry = story(*R4).failing.recording.steps[5]
    fields = recorded(entry)
    assert set(fields) == set(entry.__slots__)
    assert [tuple(offer) for offer in fields["enabled"]] == list(entry.enabled)
    touched = [((a["kind"], a["number"]), a["write"]) for a in fields["accesses"]]
    assert touched == [(a.resource, a.write) for a in entry.accesses]
    assert [page["state"] for page in fields["pages"]] == [page.state for page in entry.pages]


def test_the_flipped_run_is_aligned_with_the_failing_one() -> None:
    failing, _, passing = document(flipped())["runs"]
    common = passing["common"]
    assert common == failing["pair"][0], "they part where the host commits or the guest is first"
    for i in range(common):
        assert failing["steps"][i]["label"] == passing["steps"][i]["label"]
    assert failing["steps"][common]["label"] != passing["steps"][common]["label"]
    first, second = passing["pair"]
    assert first is None, "the host gives up and commits nothing"
    assert passing["steps"][second]["label"] == failing["steps"][failing["pair"][1]]["label"]
    assert not passing["fails"]


def test_clocks_and_causes_stand_beside_the_steps() -> None:
    (run,) = document(story(*R17))["runs"]
    counts: dict[str, int] = {}
    for entry in run["steps"]:
        counts[entry["actor"]] = counts.get(entry["actor"], 0) + 1
        assert entry["clock"][entry["actor"]] == counts[entry["actor"]]
    delivery = next(entry for entry in run["steps"] if entry["label"] == "deliver_fault")
    assert run["steps"][delivery["cause"]]["said"] == "fault 1"


def _hostile() -> Story:
    steps = [
        step("cpu0", HOSTILE, writes("flags", 7), said=HOSTILE),
        step(f"host.{HOSTILE}", "commit", writes("flags", 7), page=GONE),
    ]
    told = by_hand(steps, violation=HOSTILE, title=HOSTILE)
    return replace(told, replay_command=HOSTILE, token=HOSTILE, about=HOSTILE, races=(HOSTILE,))


def test_what_a_guest_says_does_not_become_markup() -> None:
    harmless, page = html(by_hand([])), html(_hostile())
    assert [t for t, _ in _read(page).tags] == [t for t, _ in _read(harmless).tags]
    data = _embedded(page)
    assert data["title"] == HOSTILE
    assert data["runs"][0]["steps"][0]["label"] == HOSTILE


@pytest.mark.parametrize("name", [name for name in PAGE_FILES if name.endswith(".js")])
def test_scripts_write_text_and_ask_nobody(name: str) -> None:
    script = (files("race_explorer.pictures") / "page" / name).read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "fetch("):
        assert word not in script
    assert "XMLHttpRequest" not in script
    assert "</" not in script


def test_of_a_very_long_run_the_page_shows_the_end_and_says_so() -> None:
    told = story(*R17)
    total = len(told.failing.recording.steps)
    (run,) = _embedded(html(told, steps_max=20))["runs"]
    assert (run["left_out"], len(run["steps"])) == (total - 20, 20)
    assert run["steps"][0]["index"] == total - 19
    assert run["steps"][-1]["index"] == total


def test_the_same_story_gives_the_same_bytes_whatever_the_hash_seed() -> None:
    code = (
        "import hashlib; from tests.races.stories import flipped;"
        "from race_explorer.pictures.html import html;"
        "from race_explorer.pictures.exports import chrome_trace, mermaid, shiviz, steps_jsonl;"
        "told = flipped();"
        "whole = ''.join(f(told) for f in (html, chrome_trace, mermaid, shiviz, steps_jsonl));"
        "print(hashlib.sha256(whole.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_the_files_of_the_page_are_installed() -> None:
    assert PAGE_FILES
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["*"]
    for name in PAGE_FILES:
        assert any(fnmatch(f"page/{name}", pattern) for pattern in patterns), name


def _chromium(request: pytest.FixtureRequest) -> str:
    """The browser; `-m browser` insists that there is one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        assert "browser" not in request.config.getoption("-m"), "there is no chromium in PATH"
        pytest.skip("there is no chromium in PATH; `pytest -m browser` insists on one")
    return found


def _drawn(chromium: str, page: str, folder: Path) -> str:
    """The page as it is once its scripts have run; none of them complains."""
    file = folder / "page.html"
    file.write_text(page)
    run = subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
            *(f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--dump-dom"),
            f"{file.as_uri()}#fold=0",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []
    return run.stdout


@pytest.mark.browser
@pytest.mark.parametrize("told", [*STORIES, pytest.param(_hostile, id="hostile")])
def test_a_browser_draws_every_step(
    told: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole: Story = told()
    reader = _Reader()
    reader.feed(_drawn(_chromium(request), html(whole), tmp_path))
    rows = [a for _, a in reader.tags if a.get("role") == "button" and "aria-label" in a]
    assert len(rows) == len(whole.failing.recording.steps)
    selected = [a["aria-label"] for a in rows if "selected" in (a["class"] or "").split()]
    assert len(selected) == 1
    assert not [t for t, a in reader.tags if t == "img" or a.get("onerror")]


PRESSES = ("Home", "j", "k", "j", "ArrowRight", "ArrowLeft", "n", "p", "End", "2", "3", "4", "f")
PROBE = """
<script>
const seen = [];
for (const key of PRESSES) {
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const pressed = document.querySelector("#views [aria-pressed=true]").textContent;
  seen.push([key, byId("where").textContent, pressed, document.querySelectorAll(".chart").length]);
}
const probe = document.createElement("p");
probe.id = "probe";
probe.textContent = JSON.stringify(seen);
document.body.append(probe);
</script>
"""


@pytest.mark.browser
def test_keys_step_and_change_the_run(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    told = flipped()
    probe = PROBE.replace("PRESSES", json.dumps(PRESSES))
    page = html(told).replace("</body>", f"{probe}</body>")
    found = re.search(r'<p id="probe">(.*?)</p>', _drawn(_chromium(request), page, tmp_path))
    assert found
    seen = json.loads(found[1])
    total = len(told.failing.recording.steps)
    data = document(told)["runs"]
    first = data[0]["conflicts"][0]
    assert first > 1, "so that n goes on, and p back to it from nowhere"
    steps = [1, 2, 1, 2, 3, 2, first + 1, first + 1, total]
    assert [entry[1] for entry in seen[:9]] == [f"step {n} of {total}" for n in steps]
    views = [entry[2].split(":")[0] for entry in seen[9:]]
    assert views == ["as found", "flipped", "side by side", "side by side"]
    assert [entry[3] for entry in seen] == [1] * 11 + [2, 2]
