"""A host and a guest as processes, looked at in every way at once: metrics, logs, events."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.process.host_process import DEADLINE_SECONDS, ESSA, HostProcess

pytestmark = pytest.mark.process


def scrape(address: str) -> dict[tuple[str, ...], float]:
    """Samples by name and by the values of their labels, in the order of the labels' names."""
    with urlopen(f"http://{address}/metrics", timeout=DEADLINE_SECONDS) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=DEADLINE_SECONDS)


def start(started: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*ESSA, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    started.append(process)
    return process


def test_a_cluster_can_be_looked_at(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    options = ("--memory", "160", "--paging-size", "4096", "--metrics", "127.0.0.1:0")
    with HostProcess(tmp_path, *options, "--log-format", "json") as host:
        watch = start(started, "ctl", "watch", "--control", host.control, "--guest", "web")
        ups = start(
            *(started, "ctl", "watch", "--control", host.control, "--limit", "2"),
            *("--kind", "reclaim-begun", "--kind", "reclaim-ended"),
        )
        for process in (watch, ups):
            assert process.stderr is not None
            assert "watching" in process.stderr.readline()
        guest = start(
            *(started, "guest", "--host", host.listen, "--name", "web", "--memory", "512"),
            *("--workload", "mixed", "--operations", "3000", "--vcpus", "2"),
            *("--metrics", "127.0.0.1:0", "--log-level", "info", "--log-format", "json"),
        )
        assert guest.stderr is not None
        first: dict[str, Any] = json.loads(guest.stderr.readline())
        assert (first["event"], first["guest"]) == ("metrics_served", "web")
        found = scrape(first["address"])
        assert found["essa_guest_pages", "web"] == 512
        out, errors = guest.communicate(timeout=DEADLINE_SECONDS)
        assert guest.returncode == 0, out + errors
        assert {json.loads(line)["guest"] for line in errors.splitlines()} == {"web"}

        found = scrape(host.values["metrics"])
        assert found["essa_host_page_outs_total",] > 0
        assert found["essa_host_discards_total", "volatile"] > 0
        assert found["essa_host_guests",] == 0
        assert found["essa_host_watchers",] >= 1

        assert watch.stdout is not None
        events = [json.loads(watch.stdout.readline())]
        while events[-1]["kind"] != "guest_closed":
            events.append(json.loads(watch.stdout.readline()))
        assert events[0]["kind"] == "guest_opened"
        assert {"page_discarded", "page_out_done"} <= {event["kind"] for event in events}
        assert {event["guest"] for event in events} <= {"web"}
        told, _ = ups.communicate(timeout=DEADLINE_SECONDS)
        kinds = [json.loads(line)["kind"] for line in told.splitlines()]
        assert kinds == ["reclaim_begun", "reclaim_ended"]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=DEADLINE_SECONDS) == 130
        code, errors = host.stop()
        assert code == 0
        logged = [json.loads(line) for line in errors.splitlines()]
        whose = {event["event"]: event.get("guest") for event in logged}
        assert whose["guest_opened"] == whose["guest_closed"] == "web"
