"""Goal: docs/METRICS.md names every metric that the daemons serve.

Method: the document is generated anew and compared; and it is looked into, so that an empty
one could not pass.
"""

from __future__ import annotations

from pathlib import Path

from essa_cli.metrics_document import document
from guest_agent.metrics import FAMILIES
from host_daemon.metrics import GUEST_FAMILIES, HOST_FAMILIES

METRICS = Path(__file__).parents[2] / "docs" / "METRICS.md"
ALL = (*HOST_FAMILIES, *GUEST_FAMILIES, *FAMILIES)


def test_the_document_is_fresh() -> None:
    assert METRICS.read_text(encoding="utf-8") == document(), "run `make docs`"


def test_it_holds_every_metric_once() -> None:
    text = document()
    assert len(ALL) > 50
    for family in ALL:
        assert text.count(f"| `{family.name}` |") == 1


def test_names_keep_prometheus_conventions() -> None:
    assert len({family.name for family in ALL}) == len(ALL)
    for family in ALL:
        assert family.name.startswith(("essa_host_", "essa_guest_"))
        assert family.text.endswith(".")
        assert not {"pfn", "address", "number"} & set(family.labels)
