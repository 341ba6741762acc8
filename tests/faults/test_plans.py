"""Fault plans: what is wrong is found before anything begins; what is right comes about, in time
or by its trigger, and guests survive every plan that ships."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from essa_cli.errors import CliError
from essa_cli.fault_plan import load_plan, shipped
from essa_cli.plan_run import PlanRun
from shared.faults import KINDS, Kind, Place
from tests.faults.cluster import cluster, verdict
from tests.process.host_process import essa_here

SECONDS_MAX = 60
GOOD = """
seed = 3
[process.host]
pid-file = "host.pid"
[[fault]]
name = "storm"
kind = "evict"
at = [1, 2]
pages = ["7", "16-31"]
[[fault]]
kind = "reset"
when = { guest = "one", discard-faults = 3 }
[[fault]]
kind = "kill"
process = "host"
when = { fault = "storm", struck = 5 }
"""

WRONG = {
    "not toml": ("seed = ", "Invalid value"),
    "empty": ("", "it must hold 1 to 256 of [[fault]]"),
    "unknown": ("colour = 1\n[[fault]]\nkind = 'reset'\nat = 0", "plan: colour is no field"),
    "seed": ("seed = -1\n[[fault]]\nkind = 'reset'\nat = 0", "plan: seed is -1; it must be 0 to"),
    "kind": ("[[fault]]\nkind = 'boom'\nat = 0", "fault 1: kind is 'boom'; it must be one of"),
    "no time": ("[[fault]]\nkind = 'reset'", "fault 1: it must have at or when"),
    "two times": ("[[fault]]\nkind = 'reset'\nat = 1\nwhen = {guest='a'}", "only one of them"),
    "time": ("[[fault]]\nkind = 'reset'\nat = -1", "fault 1: at is -1; it must be 0 to 86400"),
    "range": ("[[fault]]\nkind = 'reset'\nat = [5, 2]", "fault 1: at is 2; it must be 5 to"),
    "field": ("[[fault]]\nkind = 'reset'\nat = 1\nrate = 3", "fault 1: rate is no field of reset"),
    "bound": ("[[fault]]\nkind = 'reset'\nat = 1\nodds = 3", "fault 1: odds is 3; it must be more"),
    "endless": ("[[fault]]\nkind = 'fault-hold'\nat = 1", "fault 1: fault-hold would never end"),
    "when": ("[[fault]]\nkind = 'reset'\nwhen = {noon = 1}", "fault 1: when: noon is no field"),
    "nothing": ("[[fault]]\nkind = 'reset'\nwhen = {}", "fault 1: when must name a guest"),
    "count": ("[[fault]]\nkind = 'reset'\nwhen = {evictions = 0}", "when.evictions is 0; it must"),
    "reference": ("[[fault]]\nkind = 'reset'\nwhen = {fault = 'x'}", "when.fault is 'x'; no other"),
    "itself": ("[[fault]]\nname = 'x'\nkind = 'reset'\nwhen = {fault = 'x'}", "no other fault"),
    "twice": ("[[fault]]\nname='x'\nkind='reset'\nat=1\n" * 2, "name x is there twice"),
    "process": (
        "[[fault]]\nkind = 'kill'\nprocess = 'host'\nat = 1",
        "is 'host'; the plan has none",
    ),
    "no process": ("[[fault]]\nkind = 'kill'\nat = 1", "fault 1: pid-file is missing"),
}


def written(directory: Path, text: str) -> str:
    path = directory / "plan.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("text", "error"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(CliError) as caught:
        load_plan(written(tmp_path, text))
    assert error in str(caught.value)
    assert str(caught.value).startswith(f"plan {tmp_path}")


def test_everything_that_is_wrong_is_said_at_once_and_nothing_begins(tmp_path: Path) -> None:
    text = "[[fault]]\nkind = 'reset'\nat = -1\n[[fault]]\nkind = 'delay'\nat = 1\ndelay = 99"
    done = essa_here("ctl", "plan", written(tmp_path, text))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "fault 1: at is -1" in done.stderr
    assert "; fault 2: delay is 99" in done.stderr


def test_a_plan_is_the_same_each_time(tmp_path: Path) -> None:
    name = written(tmp_path, GOOD)
    one, again = load_plan(name), load_plan(name)
    assert one == again
    assert 1 <= (one.entries[0].at or 0) <= 2
    assert one.entries[0].spec.pages == (range(7, 8), range(16, 32))
    assert one.entries[2].spec.pid_file == "host.pid"
    assert load_plan(name, {"host": "container:h"}).entries[2].spec.container == "h"
    other = load_plan(written(tmp_path, GOOD.replace("seed = 3", "seed = 4")))
    assert other.entries[0].at != one.entries[0].at
    assert other.entries[0].spec.seed != one.entries[0].spec.seed
    with pytest.raises(CliError, match="--process is 'guest'; it must be a process of the plan"):
        load_plan(name, {"guest": "x"})


def test_plans_that_ship_are_listed_and_checked() -> None:
    done = essa_here("ctl", "plan", "--json")
    plans = json.loads(done.stdout)
    assert [one["name"] for one in plans] == shipped()
    assert len(plans) == 4
    assert all(one["about"] for one in plans)
    assert essa_here("ctl", "plan", shipped()[0], "--check").returncode == 0
    assert "one of eviction-storm" in essa_here("ctl", "plan", "no-such-plan").stderr
    used = {entry.spec.kind for name in shipped() for entry in load_plan(name).entries}
    assert len(used) >= 12


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in shipped()
        if all(KINDS[e.spec.kind].place is not Place.PROCESS for e in load_plan(name).entries)
    ],
)
def test_guests_survive_the_plans_that_ship(tmp_path: Path, name: str) -> None:
    async def body() -> None:
        lines: list[str] = []
        async with cluster(tmp_path) as world, world.operator() as method:
            run = PlanRun(load_plan(name).stretched(0.2), method, lines.append)
            running = asyncio.ensure_future(run.run())
            reports = await world.run(1, 300)
            while not running.done():
                reports += await world.run(2, 300)
            await running
            assert verdict(reports) == (0, 0)
            assert {course.state for course in run.courses} == {"over"}, lines
            assert sum(course.struck > 0 for course in run.courses) >= len(run.courses) - 3, lines
            assert len(lines) >= 2 * len(run.courses)
            assert all(not rule.active for rule in world.shell.book.all())

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await body()

    asyncio.run(bounded())


def test_triggers_wait_for_what_they_name_and_no_longer_than_the_plan(tmp_path: Path) -> None:
    text = """
    timeout = 2
    [[fault]]
    name = "first"
    kind = "evict"
    when = { guest = "one" }
    count = 40
    rate = 1000
    [[fault]]
    name = "second"
    kind = "duplicate"
    when = { fault = "first", struck = 40 }
    count = 5
    [[fault]]
    name = "third"
    kind = "duplicate"
    when = { guest = "two", evictions = 1 }
    guest = "two"
    count = 3
    [[fault]]
    name = "never"
    kind = "reset"
    when = { guest = "absent", essas = 1 }
    """

    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), cluster(tmp_path) as world:
            async with world.operator() as method:
                run = PlanRun(load_plan(written(tmp_path, text)), method, lambda _: None)
                running = asyncio.ensure_future(run.run())
                reports = await world.run(1, 300)
                while not running.done():
                    reports += await world.run(2, 300)
                await running
            assert verdict(reports) == (0, 0)
            first, second, third, never = run.courses
            assert (first.struck, second.struck, third.struck) == (40, 5, 3)
            assert never.state == "never begun"
            assert (second.begun_at or 0) > (first.begun_at or 0)

    asyncio.run(body())


def test_the_kinds_of_a_process_are_those_that_no_host_brings_about() -> None:
    assert {k for k, known in KINDS.items() if known.place is Place.PROCESS} == {
        Kind.PAUSE,
        Kind.RESUME,
        Kind.TERMINATE,
        Kind.KILL,
        Kind.RESTART,
    }
