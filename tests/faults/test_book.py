"""Which matches are strikes, and what a book keeps."""

from __future__ import annotations

import numpy as np
import pytest

from host_daemon.faults.book import OVER_MAX, FaultBook
from host_daemon.faults.rule import Rule
from shared.commands import Command, DiscardFault, Essa, EssaArray, Load, Sske
from shared.errors import FaultNotFoundError
from shared.faults import Kind, parse_fault


def book_with(kind: Kind, **values: object) -> tuple[FaultBook, Rule]:
    book = FaultBook()
    return book, book.add(parse_fault(kind, values))


def strikes(book: FaultBook, count: int, command: Command | None = None) -> list[bool]:
    asked = command or Load(1, 0, 1)
    return [book.about_command("web", 0, asked) is not None for _ in range(count)]


def array(*elements: tuple[int, int]) -> EssaArray:
    orcs, pfns = zip(*elements, strict=True)
    return EssaArray.of(np.array(orcs, np.uint8), np.array(pfns, np.uint32))


def test_the_nth_match_and_so_many_after_it() -> None:
    book, rule = book_with(Kind.REQUEST_LOST, nth=3, count=2)
    assert strikes(book, 6) == [False, False, True, True, False, False]
    assert (rule.matched, rule.struck, rule.active) == (4, 2, False)
    assert book.commands == ()


def test_odds_come_from_the_seed() -> None:
    def draw(seed: int) -> list[bool]:
        return strikes(book_with(Kind.REQUEST_LOST, odds=0.3, count=0, seed=seed)[0], 400)

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert 60 < sum(draw(1)) < 180


@pytest.mark.parametrize(
    ("values", "hits", "misses"),
    [
        ({"guest": "web"}, [Load(1, 0, 1)], []),
        ({"guest": "db"}, [], [Load(1, 0, 1)]),
        ({"vcpu": "1,2"}, [], [Load(1, 0, 1)]),
        ({"pages": "4-6"}, [Load(4, 0, 1), Essa(1, 6), Sske(5, 0)], [Load(7, 0, 1), Essa(1, 3)]),
        ({"orc": "2,3"}, [Essa(3, 9), array((1, 1), (2, 5))], [Essa(1, 9), Load(1, 0, 1)]),
        (
            {"orc": "2", "pages": "8"},
            [array((1, 7), (2, 8)), Essa(2, 8)],
            [array((2, 7), (1, 8)), Essa(2, 7), Load(8, 0, 1)],
        ),
    ],
)
def test_matching(values: dict[str, object], hits: list[Command], misses: list[Command]) -> None:
    for command in (*hits, *misses):
        book, _ = book_with(Kind.REPLY_LOST, **values)
        assert strikes(book, 1, command) == [command in hits], command


def test_rules_stand_where_they_act_and_nowhere_else() -> None:
    book = FaultBook()
    rules = [book.add(parse_fault(kind, {})) for kind in (Kind.RESET, Kind.FAULT_HOLD)]
    acknowledgement = book.add(parse_fault(Kind.RESET, {"method": "AcknowledgeFaults"}))
    subscription = book.add(parse_fault(Kind.RESET, {"method": "SubscribeFaults"}))
    slow = book.add(parse_fault(Kind.SLOW_CONSUMER, {}))
    device = book.add(parse_fault(Kind.DEVICE_CORRUPT, {}))
    assert book.commands == (rules[0],)
    assert book.calls == (acknowledgement,)
    assert book.delivery == (rules[1], subscription)
    assert (book.paces, book.device, book.memory) == ((slow,), (device,), ())
    assert book.about_transfer("read", 1) is None
    assert book.about_transfer("write", 2) is device
    assert book.end_all() == [*rules, acknowledgement, subscription, slow]
    assert (book.commands, book.calls, book.delivery, book.paces, book.device) == ((),) * 5


def test_opening_and_closing_match_by_guest() -> None:
    book, rule = book_with(Kind.REPLY_LOST, method="OpenGuest,CloseGuest", guest="web", count=2)
    assert book.about_call("OpenGuest", "db") is None
    assert book.about_call("AcknowledgeFaults", "web") is None
    assert book.about_call("OpenGuest", "web") is rule
    assert book.about_call("CloseGuest", "web") is rule


def test_transfers_match_by_guest_and_page() -> None:
    book, rule = book_with(Kind.DEVICE_SLOW, guest="web", pages="4-6", operation="read")
    book.owner_of = {1: ("web", 5), 2: ("web", 7), 3: ("db", 5)}.__getitem__
    assert [book.about_transfer("read", operation) for operation in (1, 2, 3)] == [rule, None, None]
    assert book.about_transfer("write", 1) is None
    assert rule.matched == 1


def test_nobody_is_asked_whose_a_transfer_is_unless_a_fault_names_somebody() -> None:
    book, rule = book_with(Kind.DEVICE_SLOW)
    assert book.about_transfer("write", 1) is rule
    book.add(parse_fault(Kind.DEVICE_SLOW, {"pages": "5"}))
    with pytest.raises(LookupError, match="nobody has said whose operation 2 is"):
        book.about_transfer("write", 2)


def test_discard_faults_match_by_vcpu_and_page() -> None:
    book, rule = book_with(Kind.FAULT_DELAY, vcpu="1", pages="7")
    assert book.about_delivery("web", DiscardFault(1, 0, 7 << 12)) is None
    assert book.about_delivery("web", DiscardFault(2, 1, 8 << 12)) is None
    assert book.about_delivery("web", DiscardFault(3, 1, 7 << 12)) is rule


def test_what_is_over_is_told_once_and_kept_for_a_while() -> None:
    book = FaultBook()
    ended: list[int] = []
    book.ended = lambda rule: ended.append(rule.fault_id)
    for _ in range(OVER_MAX + 3):
        rule = book.add(parse_fault(Kind.RESET, {}))
        book.end(rule)
        book.end(rule)
    assert ended == list(range(1, OVER_MAX + 4))
    assert [rule.fault_id for rule in book.all()] == ended[3:]
    with pytest.raises(FaultNotFoundError, match="no fault 1"):
        book.by_id(1)
