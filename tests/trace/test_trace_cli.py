"""`essa trace` as a user meets it: output, exit codes, one line for what is wrong."""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from essa_cli.curveplot import text_plot
from essa_cli.main import main
from guest_agent.workload import stackdist, tracefile

Output = pytest.CaptureFixture[str]


def essa(*arguments: str) -> int:
    """Run the command line in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["essa", "trace", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_stat_json_of_a_shipped_trace(capsys: Output) -> None:
    assert essa("stat", "search", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    curve = stackdist.lru_curve(tracefile.load(tracefile.resolve("search")))
    assert list(told["lru_miss_ratio"]) == ["10", "25", "50", "75"]
    for percent, ratio in told["lru_miss_ratio"].items():
        size = curve.unique_count * int(percent) // 100
        assert told["cache_pages"][percent] == size
        assert told["misses"][percent] == curve.misses(size)
        assert ratio == curve.misses(size) / curve.access_count
    assert told["unique_pages"] == curve.unique_count
    assert told["accesses"] == curve.access_count
    assert told["footprint_bytes"] == 4096 * curve.unique_count
    assert told["write_share"] == 0
    assert len(told["curve"]) == 100
    assert told["curve"][-1]["misses"] == curve.unique_count


def test_stat_text_and_svg(capsys: Output, tmp_path: Path) -> None:
    svg = tmp_path / "curve.svg"
    assert essa("stat", "sqlite", "--svg", str(svg)) == 0
    text = capsys.readouterr().out
    for word in ("requests", "accesses", "unique", "footprint", "writes", "miss ratio", "▀"):
        assert word in text
    root = ElementTree.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    (line,) = root.iter("{http://www.w3.org/2000/svg}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert len(points) == 401
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted(y for _, y in points), "a cache never gets worse"


def test_the_text_plot_has_every_height_in_its_place() -> None:
    lines = text_plot(lambda percent: 1 - percent / 100)
    assert lines[0].startswith("  1.0 ┤▀")
    assert lines[12].startswith("  0.0 ┤")
    assert lines[12].endswith("▄")
    for row, line in enumerate(lines[:13]):
        marks = [place for place, char in enumerate(line) if char in "▀▄"]
        assert marks, row
        assert 7 + 60 * row / 13 - 3 <= marks[0] <= 7 + 60 * row / 13 + 3
    assert sum(char in "▀▄" for line in lines for char in line) == 61


def test_import_then_stat(capsys: Output, tmp_path: Path) -> None:
    source, target = tmp_path / "list", tmp_path / "list.essa-trace"
    source.write_text("1\n2\n1\n2\n3\n1\n")
    assert essa("import", str(source), str(target), "--format", "lirs") == 0
    assert "6 requests, 6 page accesses" in capsys.readouterr().out
    assert essa("import", str(source), str(target), "--json") == 0
    assert json.loads(capsys.readouterr().out)["accesses"] == 6
    assert essa("stat", str(target), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cache_pages"] == {"10": 0, "25": 0, "50": 1, "75": 2}
    assert told["misses"] == {"10": 6, "25": 6, "50": 6, "75": 4}
    assert essa("stat", str(source), "--json") == 0
    assert json.loads(capsys.readouterr().out)["misses"] == told["misses"]


def test_import_options_reach_the_format(capsys: Output, tmp_path: Path) -> None:
    source, target = tmp_path / "list", tmp_path / "out.essa-trace"
    source.write_text("0 8 0 1\n")
    arguments = ("import", str(source), str(target), "--json")
    for options, accesses in (
        ((), 1),
        (("--sector-shift", "3"), 2),
        (("--block-bytes", "4096"), 8),
    ):
        assert essa(*arguments, *options) == 0
        assert json.loads(capsys.readouterr().out)["accesses"] == accesses


def test_list(capsys: Output) -> None:
    assert essa("list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["traces"]
    assert [row["name"] for row in rows] == ["compile", "search", "sqlite"]
    assert essa("list") == 0
    text = capsys.readouterr().out
    assert all(row["name"] in text and row["origin"] in text for row in rows)


@pytest.mark.parametrize("command", ["list", "record", "import", "stat"])
def test_help_has_an_example(command: str, capsys: Output) -> None:
    assert essa(command, "--help") == 0
    assert f"Example: essa trace {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("stat", "missing"), "neither a file nor a shipped trace"),
        (("stat", "{folder}"), "is a directory"),
        (("stat", "{folder}/empty"), "is empty"),
        (("stat", "{folder}/cut"), "cut off at byte 900"),
        (("stat", "{folder}/text"), "no known trace format"),
        (("stat", "{folder}/text", "--format", "msr"), "line 1: 1 fields"),
        (("stat", "search", "--format", "vms"), "--format vms"),
        (("stat", "search", "--id-unit", "ell"), "--id-unit ell"),
        (("stat", "search", "--block-bytes", "0"), "block-bytes"),
        (("stat", "search", "--svg", "{folder}/no/x.svg"), "No such file"),
        (("stat",), "FILE"),
        (("import", "search", "{folder}/no/x"), "No such file"),
        (("record", "-o", "{folder}/no/x", "true"), "its folder does not exist"),
        (("record",), "COMMAND"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], line: str, capsys: Output, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello\nworld\n")
    (tmp_path / "cut").write_bytes(tracefile.resolve("sqlite").read_bytes()[:900])
    assert essa(*(argument.format(folder=tmp_path) for argument in arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("essa: ")
    assert captured.err.count("\n") == 1
    assert line in captured.err


def test_without_strace_nothing_can_be_recorded(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert essa("record", "-o", str(tmp_path / "t"), "--", "true") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "t").exists()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_record_passes_output_and_exit_status_on(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("input").write_text("hello\n")
    assert essa("record", "--json", "sh", "-c", "cat input; exit 3") == 3
    captured = capfd.readouterr()
    told = json.loads(captured.out)
    assert told["command_status"] == 3
    assert captured.err.splitlines() == ["hello"]
    trace = tracefile.load(Path(told["file"]))
    assert "input" in {file.name for file in trace.files}
    assert essa("record", "-o", "second", "--", "cat", "input") == 0
    captured = capfd.readouterr()
    assert captured.out == "hello\n"
    assert captured.err.startswith("second: ")


def test_progress_shows_after_two_seconds_only(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 2.5, 3.0, 13.0])
    monkeypatch.setattr("essa_cli.trace.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(stackdist, "BLOCK", 3000)
    assert essa("stat", "search", "--json") == 0
    captured = capsys.readouterr()
    total = json.loads(captured.out)["accesses"]
    assert captured.err.splitlines() == [f"counting: {6000 / total:.0%} of {total:,} accesses"]


def test_the_table_in_the_docs_is_true(capsys: Output) -> None:
    text = (Path(__file__).parents[2] / "docs" / "TRACES.md").read_text()
    for name in tracefile.shipped():
        assert essa("stat", name, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[2:] == [
            *(f"{told[key]:,}" for key in ("requests", "accesses", "unique_pages")),
            f"{told['write_share']:.3f} / {told['write_share_accesses']:.3f}",
            *(f"{told['lru_miss_ratio'][percent]:.4f}" for percent in ("10", "25", "50", "75")),
            f"{told['cold_miss_ratio']:.4f}",
            f"{tracefile.resolve(name).stat().st_size:,}",
        ]
