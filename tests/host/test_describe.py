"""Goal: docs/STATES.md says what the code does.

Method: the document is generated anew and compared; and it is looked into, so that an empty
one could not pass.
"""

from __future__ import annotations

from pathlib import Path

from host_daemon.core.describe import document

STATES = Path(__file__).parents[2] / "docs" / "STATES.md"


def test_the_document_is_fresh() -> None:
    assert STATES.read_text(encoding="utf-8") == document(), "run `make docs`"


def test_it_holds_what_it_should() -> None:
    text = document()
    assert text.count("```mermaid") == 4
    for line in (
        "    Pr --> Vz: evict if C is 0",
        "    Vz --> Vz: access raises 0x1a",
        "    Up --> Ur: access",
    ):
        assert line in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "| " in line}
    assert "machine check" in rows["orc 5"]
    assert "waits" in rows["device store"]
    assert "Uz, dropped" in rows["orc 2"]
    for choice in ("D1 ", "D2 ", "D3 ", "D4 ", "D7 ", "D8 ", "D10 ", "D11 "):
        assert f"- CHOICE: {choice}" in text
