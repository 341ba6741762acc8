"""`essa races replay` and `shrink`: exports, sizes, and files that are bad in every way.

Method: committed files are changed by a seeded generator (letters, lines, words that mean
something elsewhere). Whatever comes of it is a run or one line and exit code 2.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from essa_cli.errors import CliError
from essa_cli.races_replay import again
from race_explorer.replays.policies import Policy
from race_explorer.replays.text import load
from tests.cli.command import Essa

FOLDER = Path(__file__).parents[1] / "replays"
FILE = FOLDER / "stable_before_clear.essa-replay"
MUTATIONS = 300
WORDS = ('"host"', '"cpu0"', '"fixed"', '"seed"', "99999999999999999999", "-1", "0", "[]", '""')
COMPOSED = """format = "essa-replay/1"
scenario = "composed"
workload = {workload}
preset = "fixed"
without = []
dropped = []
source = "0"
policy = "stay-current/first"
[found_by]
strategy = "pos"
schedule = 1
seed = 0
deviations = 0
steps = 0
replays = 0
[expect]
verdict = "holds"
signature = ""
violation = ""
steps = 0
digest = "0"
trail = []
"""


@pytest.mark.parametrize(
    ("export", "begins"),
    [("steps", "{"), ("mermaid", "sequenceDiagram"), ("shiviz", "(?<"), ("chrome", "{")],
)
def test_exports_are_printed_alone_and_written(
    essa: Essa, tmp_path: Path, export: str, begins: str
) -> None:
    ended = essa("races", "replay", str(FILE), "--export", export)
    assert ended.code == 0, ended.err
    assert ended.out.startswith(begins)
    target = tmp_path / "export"
    essa("races", "replay", str(FILE), "--export", export, "--output", str(target))
    assert target.read_text(encoding="utf-8").strip() == ended.out.strip()


def test_exported_steps_are_the_steps_of_the_run(essa: Essa) -> None:
    lines = essa("races", "replay", str(FILE), "--export", "steps").out.splitlines()
    assert len([json.loads(line) for line in lines]) >= load(FILE).expect.steps


def test_a_replay_is_drawn_as_a_page(essa: Essa, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert essa("races", "replay", str(FILE), "--html", str(page)).code == 0
    assert "stable_before_clear" in page.read_text(encoding="utf-8")


def test_shrinking_says_what_it_was_and_is(essa: Essa, tmp_path: Path) -> None:
    target = tmp_path / "small.essa-replay"
    ended = essa("races", "shrink", str(FILE), "--json", "-o", str(target))
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["after"]["deviations"] <= told["before"]["deviations"]
    assert told["after"]["steps"] == load(target).expect.steps
    assert told["replay"] == target.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", '"essa-replay/9"'),
        ("scenario", '"no-such"'),
        ("without", '["no_such_guard"]'),
        ("preset", '"none"'),
        ("dropped", '["nobody"]'),
        ("workload", '"read"'),
        ("faults", '"no=1"'),
        ("policy", '"other"'),
    ],
)
def test_what_does_not_exist_is_one_line(
    essa: Essa, tmp_path: Path, field: str, value: str
) -> None:
    changed = _with(FILE.read_text(encoding="utf-8"), field, value)
    assert _runs_or_is_refused(essa, tmp_path, changed) == 2


@pytest.mark.parametrize("without", ["stable_lookup", "test_set_discarded", "gang_discards_failed"])
def test_a_scenario_that_cannot_be_prepared_without_a_guard_is_one_line_or_runs(
    essa: Essa, tmp_path: Path, without: str
) -> None:
    text = FILE.read_text(encoding="utf-8")
    for scenario in ("enabled-too-early", "removed-but-not-marked"):
        changed = _with(_with(text, "scenario", f'"{scenario}"'), "dropped", "[]")
        _runs_or_is_refused(essa, tmp_path, _with(changed, "without", f'["{without}"]'))


@pytest.mark.parametrize("workload", ["", "no such thing", "munmap", "7", "read | | read"])
def test_a_workload_that_is_none_is_one_line(essa: Essa, tmp_path: Path, workload: str) -> None:
    text = COMPOSED.format(workload=json.dumps(workload))
    assert _runs_or_is_refused(essa, tmp_path, text) == 2


def test_what_is_no_file_is_one_line(essa: Essa, tmp_path: Path) -> None:
    binary = tmp_path / "binary.essa-replay"
    binary.write_bytes(bytes(range(256)))
    for name in (str(binary), str(tmp_path), str(tmp_path / "none"), "ESSA1.ABC"):
        ended = essa("races", "replay", name)
        assert ended.code == 2
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize("part", range(6))
def test_a_damaged_file_is_a_run_or_a_line(tmp_path: Path, part: int) -> None:
    """Without the words of the command line, which take longer than a run does."""
    numbers = random.Random(part)
    texts = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())]
    file, refused = tmp_path / "file.essa-replay", list[str]()
    for _ in range(MUTATIONS // 6):
        text = _damaged(numbers, texts)
        file.write_text(text, encoding="utf-8")
        try:
            again(str(file), Policy.BEST_EFFORT)
        except CliError as error:
            refused.append(str(error))
    assert refused, "no damage was noticed"
    assert [line for line in refused if not line.startswith(str(file))] == []


def _with(text: str, field: str, value: str) -> str:
    changed = re.sub(rf"(?m)^{field} = .*$", f"{field} = {value}", text)
    assert changed != text or f"{field} = {value}" in text
    return changed


def _runs_or_is_refused(essa: Essa, tmp_path: Path, text: str) -> int:
    file = tmp_path / "file.essa-replay"
    file.write_text(text, encoding="utf-8")
    ended = essa("races", "replay", str(FILE), str(file), "--policy", "best-effort")
    assert ended.code in (0, 1, 2), text
    assert ended.err.count("\n") == (ended.code == 2), f"{ended.err}\n{text}"
    return ended.code


def _damaged(numbers: random.Random, texts: list[str]) -> str:
    text = numbers.choice(texts)
    for _ in range(numbers.randint(1, 3)):
        text = numbers.choice((_letter, _line, _word, _mixed))(numbers, text, texts)
    return text


def _letter(numbers: random.Random, text: str, _texts: list[str]) -> str:
    at = numbers.randrange(len(text))
    return text[:at] + numbers.choice(("", '"', "x", "0", "\n", "[", "é")) + text[at + 1 :]


def _line(numbers: random.Random, text: str, _texts: list[str]) -> str:
    lines = text.splitlines(keepends=True)
    at = numbers.randrange(len(lines))
    lines[at : at + 1] = numbers.choice(([], [lines[at]] * 2, [numbers.choice(lines)]))
    return "".join(lines) or "\n"


def _word(numbers: random.Random, text: str, _texts: list[str]) -> str:
    """Another value for a field."""
    values = list(re.finditer(r"(?m)(?<= = )(\"[^\"\n]*\"|-?\d+|\[.*\])", text))
    if not values:
        return text
    value = numbers.choice(values)
    return text[: value.start()] + numbers.choice(WORDS) + text[value.end() :]


def _mixed(numbers: random.Random, text: str, texts: list[str]) -> str:
    """What another file says of the same field: a guard, a scenario, actors."""
    field = numbers.choice(("scenario", "without", "dropped", "preset"))
    other = re.search(rf"(?m)^{field} = .*$", numbers.choice(texts))
    return text if other is None else re.sub(rf"(?m)^{field} = .*$", other.group(), text)
