"""What other tools get: each format is read back by the rules that its tool goes by."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from race_explorer.causality import precedes
from race_explorer.pictures.discovery import discovery_svg
from race_explorer.pictures.document import recorded
from race_explorer.pictures.exports import (
    SHIVIZ_PARSER,
    chrome_trace,
    mermaid,
    shiviz,
    steps_jsonl,
)
from race_explorer.pictures.matrix import Matrix, matrix_svg, matrix_table
from race_explorer.pictures.plot import Plot
from tests.races.stories import GONE, R4, R17, R22, by_hand, flipped, step, story

STORIES = [R4, R17, R22]
MATRIX: Matrix = {
    "found_soon": {"one-race": 3, "another": None, "<third> & more": 12_345},
    "found_late": {"another": 950},
    "alive": {"one-race": None},
}


def _mermaid_lines(text: str) -> list[tuple[str, ...]]:
    """Every line after the first, taken apart; a line of another shape fails."""
    participant = r"participant (\w+) as ([\w+. ]+)"
    note = r"Note over (\w+)(?:,(\w+))?: ([^;<>%]+)"
    message = r"(\w+)(--?>>)(\w+): ([^;<>%]+)"
    escaped = re.compile(r"#(?:lt|gt|\d+);")
    found = []
    first, *lines = text.splitlines()
    assert first == "sequenceDiagram"
    for line in lines:
        plain = escaped.sub("", line.strip())
        assert "#" not in plain
        match = next(
            filter(None, (re.fullmatch(p, plain) for p in (participant, note, message))), None
        )
        assert match, line
        found.append((plain.split()[0], *match.groups()))
    return found


@pytest.mark.parametrize(("name", "guards"), STORIES)
def test_mermaid_has_a_message_for_every_step_or_a_note_that_it_is_folded(
    name: str, guards: tuple[str, ...]
) -> None:
    told = story(name, guards)
    lines = _mermaid_lines(mermaid(told, lines=20))
    known = {found[1] for found in lines if found[0] == "participant"}
    messages = [found for found in lines if ">>" in found[0]]
    assert {end for found in messages for end in (found[1], found[3])} <= known
    folded = sum(
        int(text[0])
        for found in lines
        if found[0] == "Note" and (text := re.findall(r"^(\d+) steps folded$", found[3]))
    )
    assert len(messages) + folded == len(told.failing.recording.steps)
    assert len(messages) <= 20
    texts = "\n".join(found[4] for found in messages)
    assert re.search(r"^\[A\] \d+ ", texts, re.MULTILINE)
    assert re.search(r"^\[B\] \d+ ", texts, re.MULTILINE)


def test_mermaid_takes_any_text_for_text() -> None:
    hostile = "x; y\nNote over L9: #z <b> -->> %%"
    text = mermaid(by_hand([step("cpu0", hostile, page=GONE)], violation=hostile, title=hostile))
    assert len(_mermaid_lines(text)) == 5


@pytest.mark.parametrize(("name", "guards"), STORIES)
def test_shiviz_reads_every_step_with_a_clock_that_counts_its_host(
    name: str, guards: tuple[str, ...]
) -> None:
    told = story(name, guards)
    log = shiviz(told)
    assert log.splitlines()[0] == SHIVIZ_PARSER
    events = list(re.finditer(SHIVIZ_PARSER.replace("(?<", "(?P<"), log))
    plot = Plot(told.failing)
    assert len(events) == len(plot.steps)
    counts: dict[str, int] = {}
    clocks: list[dict[str, int]] = []
    for i, event in enumerate(events):
        host, clock = event["host"], json.loads(event["clock"])
        assert host == plot.lane_of[i]
        counts[host] = counts.get(host, 0) + 1
        assert clock[host] == counts[host]
        assert event["event"].startswith(f"{i + 1} ")
        clocks.append(clock)
    for j in range(len(events)):
        for i in range(j):
            if precedes(plot.clocks, plot.steps, i, j):
                assert all(clocks[j].get(host, 0) >= n for host, n in clocks[i].items())


@pytest.mark.parametrize(("name", "guards"), STORIES)
def test_a_trace_has_what_perfetto_asks_of_every_event(name: str, guards: tuple[str, ...]) -> None:
    told = story(name, guards)
    trace = json.loads(chrome_trace(told))
    events: list[dict[str, Any]] = trace["traceEvents"]
    for event in events:
        assert isinstance(event["name"], str)
        assert event["ph"] in "MXbesf"
        assert all(isinstance(event[key], int) and event[key] >= 0 for key in ("ts", "pid", "tid"))
        assert ("dur" in event) == (event["ph"] == "X")
        assert event["ph"] in "MX" or ("id" in event and "cat" in event)
    steps = [e for e in events if e["ph"] == "X" and e["pid"] == 1]
    assert len(steps) == len(told.failing.recording.steps)
    assert [e["ts"] for e in steps] == sorted({e["ts"] for e in steps})
    lanes = {
        e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name" and e["pid"] == 1
    }
    assert {lanes[e["tid"]] for e in steps} == set(Plot(told.failing).lanes)
    for begin, end in (("b", "e"), ("s", "f")):
        opened = {(e["cat"], e["id"]): e["ts"] for e in events if e["ph"] == begin}
        closed = {(e["cat"], e["id"]): e["ts"] for e in events if e["ph"] == end}
        assert opened.keys() == closed.keys()
        assert all(opened[key] < closed[key] for key in opened)
    pages = [e for e in events if e["ph"] == "X" and e["pid"] == 2]
    assert sum(e["dur"] for e in pages) == len(steps) * 1000 * len(told.failing.recording.pfns)


@pytest.mark.parametrize(("name", "guards"), STORIES)
def test_the_sidecar_has_one_object_a_step(name: str, guards: tuple[str, ...]) -> None:
    told = story(name, guards)
    recording = told.failing.recording
    header, *lines = [json.loads(line) for line in steps_jsonl(told).splitlines()]
    assert header["format"] == "essa-steps/1"
    assert header["digest"] == recording.digest
    assert header["off"] == list(guards)
    assert len(lines) == len(recording.steps)
    for line, entry in zip(lines, recording.steps, strict=True):
        assert {key: line[key] for key in recorded(entry)} == json.loads(
            json.dumps(recorded(entry))
        )
        assert line["clock"][entry.actor] >= 1
        assert line["cause"] is None or line["cause"] < entry.index


def test_the_exports_of_a_shrunk_story_are_of_the_shrunk_run() -> None:
    told = flipped()
    assert told.raw is not None
    assert len(told.raw.recording.steps) > len(told.failing.recording.steps)
    assert len(steps_jsonl(told).splitlines()) == len(told.failing.recording.steps) + 1


def test_the_matrix_names_first_what_nobody_kills() -> None:
    head, *lines = matrix_table(MATRIX, width=72)
    assert head.split()[:2] == ["guard", "killed"]
    assert [line.split()[0] for line in lines] == ["alive", "found_soon", "found_late"]
    assert "0 of 1" in lines[0]
    assert lines[0].endswith("NOT KILLED")
    assert re.search(r"2 of 3 +3 +6174 +one-race: 3, \+1$", lines[1])
    assert re.search(r"1 of 1 +950 +950 +another: 950$", lines[2])
    assert max(map(len, matrix_table(MATRIX, width=50))) <= 50


def test_the_heat_map_has_a_cell_for_everything_that_was_tried() -> None:
    root = ElementTree.fromstring(matrix_svg(MATRIX))
    titles = [node.text for node in root.iter() if node.tag.endswith("title")]
    assert sorted(str(title) for title in titles) == [
        "<third> & more without found_soon: found after 12345 schedules",
        "another without found_late: found after 950 schedules",
        "another without found_soon: not found",
        "one-race without alive: not found",
        "one-race without found_soon: found after 3 schedules",
    ]
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert "alive (not killed)" in texts
    assert {"3", "12k", "950", "–"} <= set(texts), "the number stands in the cell"


def test_an_empty_matrix_is_a_picture_too() -> None:
    assert len(matrix_table({})) == 1
    ElementTree.fromstring(matrix_svg({}))


def test_the_discovery_curve_rises_to_its_last_point_and_is_named_there() -> None:
    curves = {"random": [(0, 0), (500, 40), (1000, 60)], "<pos>": [(1000, 80)], "none": []}
    root = ElementTree.fromstring(discovery_svg(curves))
    lines = [node.attrib for node in root.iter() if node.tag.endswith("polyline")]
    points = [[tuple(map(float, p.split(","))) for p in a["points"].split()] for a in lines]
    assert [len(line) for line in points] == [3, 1]
    xs, ys = zip(*points[0], strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True), "up is less in SVG"
    assert points[1][0][0] == xs[-1]
    assert points[1][0][1] < ys[-1]
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert {"random 60", "<pos> 80"} <= set(texts)
    assert len({a["stroke-dasharray"] for a in lines}) == 2, "told apart without colour"


def test_labels_of_curves_that_end_together_do_not_cover_each_other() -> None:
    root = ElementTree.fromstring(discovery_svg({name: [(9, 5)] for name in "abcd"}))
    heights = sorted(
        float(node.attrib["y"]) for node in root.iter() if node.text in {f"{n} 5" for n in "abcd"}
    )
    assert all(below - above >= 13.9 for above, below in pairwise(heights))
