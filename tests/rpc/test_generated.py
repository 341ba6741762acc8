"""The committed stubs are what the committed contract generates, and the contract keeps form."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOS = sorted((ROOT / "proto").glob("*.proto"))


def test_generated_modules_are_fresh(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True, capture_output=True
    )
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*"))
    assert len(written) == 3 * len(PROTOS)
    for path in written:
        assert (ROOT / path).read_text() == (tmp_path / path).read_text(), f"{path}: make proto"


@pytest.mark.parametrize("proto", PROTOS, ids=lambda proto: proto.name)
def test_every_element_of_the_contract_has_a_comment(proto: Path) -> None:
    lines = proto.read_text().splitlines()
    element = re.compile(r"\s*(?:(message|service|rpc|enum|oneof)\b|(?:\w+ )*\w+ = \d+;)")
    count = 0
    for before, line in itertools.pairwise(lines):
        if element.match(line):
            count += 1
            assert before.strip().startswith("//"), f"without a comment: {line.strip()}"
    assert count > 5
