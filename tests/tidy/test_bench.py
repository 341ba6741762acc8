"""The benchmarks work and say what they promise to say; how fast anything is, is not asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main, run
from bench.arrays import check_results
from bench.rounds import Comparison, spread
from bench.settings import TARGETS, TINY
from shared.essa.v1 import essa_pb2 as pb


@pytest.mark.process
def test_a_tiny_run_writes_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    run(TINY, file)
    written = json.loads(file.read_text())
    assert set(written["ratios"]) == {
        "unary_essa_vs_echo",
        "array_essa_vs_echo",
        "gathered_vs_single",
    }
    figures = [
        *written["ratios"].values(),
        written["array_essas_per_second"],
    ]
    assert all(figure > 0 for figure in figures)
    # So few pages may fit into memory that the daemon has already: its growth is then 0.
    assert 0 <= written["host_bytes_per_page"] < 1000
    assert set(written["met"]) == set(TARGETS)
    assert written["array"]["slots_held"] == [TINY.preserved_pages] * TINY.rounds
    assert written["array"]["ratio"]["minimum"] <= written["ratios"]["array_essa_vs_echo"]
    assert written["array_refused"]["our_rate"]["median"] > 0
    table = capsys.readouterr().out
    assert "divided by" in table
    assert "raw grpc.aio" in table
    assert "in problem state" in table


def test_a_file_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--json", str(tmp_path / "missing" / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_ratios_are_taken_round_by_round() -> None:
    comparison = Comparison("n", "o", "b", "u", our_rates=[1.0, 6.0, 4.0], baseline_rates=[2, 3, 4])
    assert comparison.ratios == [0.5, 2.0, 1.0]
    assert comparison.ratio.median == 1.0
    assert (comparison.ratio.minimum, comparison.ratio.maximum) == (0.5, 2.0)


def test_an_array_with_a_wrong_result_byte_ends_the_bench() -> None:
    message = pb.ExecuteRequest(commands=[pb.NumberedCommand(vcpu=1, number=7)])
    outcome = pb.NumberedOutcome(vcpu=1, number=7, essa_array_states=b"\x00\x04")
    responses = [pb.ExecuteResponse(outcomes=[outcome])]
    check_results([np.array([0, 4], np.uint8)], [message], responses)
    with pytest.raises(AssertionError, match="wrong states"):
        check_results([np.array([0, 5], np.uint8)], [message], responses)


def test_quartiles_lie_between_the_extremes() -> None:
    found = spread([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.lower_quartile, found.median, found.upper_quartile) == (2.0, 3.0, 4.0)
