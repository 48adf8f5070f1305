"""The small parts of the server, one by one: `Inbox`, `Rate`, `Crowd`, `Reports`."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from serving import in_loop
from websockets.frames import Frame, Opcode

from fastrnn.serve.crowd import TURN_SECONDS, Crowd
from fastrnn.serve.inbox import MESSAGE_COST, MOST_FRAGMENTS, Inbox
from fastrnn.serve.protocol import INVALID, TOO_BIG, RefusedError
from fastrnn.serve.rate import Rate
from fastrnn.serve.reports import REPORT_SECONDS, Reports


def put(inbox, opcode, *parts):
    for i, part in enumerate(parts):
        kind = opcode if i == 0 else Opcode.CONT
        inbox.put(Frame(kind, bytearray(part), fin=i == len(parts) - 1))


def test_messages_come_out_as_they_went_in():
    inbox = Inbox(10_000)
    put(inbox, Opcode.BINARY, b"one")
    put(inbox, Opcode.BINARY, b"t", b"", b"wo")
    put(inbox, Opcode.TEXT, "dr\u00e9i".encode()[:3], "dr\u00e9i".encode()[3:])
    put(inbox, Opcode.BINARY, b"")
    inbox.put(Frame(Opcode.BINARY, b"begun", fin=False))
    assert [inbox.take() for _ in range(len(inbox))] == [b"one", b"two", "dr\u00e9i", b""]
    inbox.put(Frame(Opcode.CONT, b", ended", fin=True))
    assert inbox.take() == b"begun, ended"
    assert not inbox


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_an_inbox_is_full_by_bytes_and_what_is_begun_does_not_count(size):
    inbox, count = Inbox(10_000), 0
    while not inbox.is_full:
        put(inbox, Opcode.TEXT, b"x" * size)
        count += 1
    assert count == -(-10_000 // (size + MESSAGE_COST))
    for _ in range(count):
        inbox.take()
    put(inbox, Opcode.BINARY, b"x" * 9_000)
    inbox.put(Frame(Opcode.BINARY, b"x" * 9_000, fin=False))
    assert not inbox.is_full


def test_a_message_of_too_many_fragments():
    inbox = Inbox(10_000)
    put(inbox, Opcode.BINARY, *[b"x"] * MOST_FRAGMENTS)
    assert inbox.take() == b"x" * MOST_FRAGMENTS
    with pytest.raises(RefusedError) as refused:
        put(inbox, Opcode.BINARY, *[b""] * (MOST_FRAGMENTS + 1))
    assert refused.value.code == TOO_BIG


def test_text_that_is_none():
    with pytest.raises(RefusedError) as refused:
        put(Inbox(100), Opcode.TEXT, b"\xff")
    assert refused.value.code == INVALID


def test_a_rate_allows_a_burst_and_then_so_many_a_second():
    rate = Rate(10, now=100.0)
    assert rate.spend(10, 100.0) == 0
    assert rate.spend(1, 100.0) == pytest.approx(0.1)
    assert rate.spend(1, 100.2) == 0
    assert rate.spend(30, 105.0) == pytest.approx(2)
    assert rate.spend(1, 107.0) == pytest.approx(0.1)
    assert Rate(0, now=0.0).spend(10**9, 0.0) == 0


class Member:
    def __init__(self, parts=0, seconds=0.0):
        self.parts, self.seconds, self.aborted, self.parsed = parts, seconds, False, 0

    def abort(self):
        self.aborted = True

    def parse_part(self):
        time.sleep(self.seconds)
        self.parsed += 1
        return self.parsed < self.parts


def test_a_newcomer_takes_the_place_of_the_oldest_without_a_stream():
    crowd, members = Crowd(4), [Member() for _ in range(8)]
    for member in members[:4]:
        crowd.enter(member)
    crowd.settle(members[0])
    crowd.settle(members[2])
    crowd.enter(members[4])
    assert [m.aborted for m in members] == [False, True, False, False, False] + [False] * 3
    crowd.loosen(members[0])  # parts, and does not go: it is the youngest of those
    crowd.enter(members[5])
    assert members[3].aborted
    crowd.leave(members[3])  # as its socket says later
    crowd.leave(members[2])
    crowd.enter(members[6])
    assert not members[4].aborted
    for member in (members[0], members[4], members[5], members[6]):
        crowd.settle(member)
    crowd.enter(members[7])  # the only one without
    assert members[7].aborted
    assert not any(m.aborted for m in (members[0], members[2], *members[4:7]))


def test_a_closed_crowd_lets_nobody_in():
    crowd, members = Crowd(4), [Member() for _ in range(3)]
    crowd.enter(members[0])
    crowd.enter(members[1])
    crowd.settle(members[0])
    crowd.close()
    crowd.enter(members[2])
    assert [m.aborted for m in members] == [False, True, True]
    crowd.cut()
    assert members[0].aborted


@in_loop
async def test_all_parse_in_turns_and_leave_time_to_others():
    crowd = Crowd(10)
    slow = [Member(parts=20, seconds=TURN_SECONDS) for _ in range(3)]
    for member in slow:
        crowd.parse_soon(member)
    for turn in range(1, 10):
        await asyncio.sleep(0)
        assert sum(m.parsed for m in slow) == turn  # one part was all that there was time for
    assert [m.parsed for m in slow] == [3, 3, 3]
    quick = Member(parts=5)
    crowd.parse_soon(quick)
    while quick.parsed < 5:
        await asyncio.sleep(0)
    assert sum(m.parsed for m in slow) <= 9 + 3 * 6


def test_reports_are_few_and_lose_no_count(caplog):
    now = 0.0
    reports = Reports(logging.getLogger("fastrnn.test"), lambda: now)
    with caplog.at_level(logging.WARNING, "fastrnn.test"):
        for _ in range(1000):
            reports.tell("refused", "\x1b[2J" + "x" * 200)
            reports.flush()
        reports.tell("dropped")
        now += REPORT_SECONDS
        reports.flush()
        reports.tell("refused", "y")
        reports.tell("dropped")
        reports.flush(whole=True)
    assert caplog.messages == [
        "refused, such as '\\x1b[2J" + "x" * 96 + "'",
        "dropped",
        "refused: 999 more times",
        "dropped",
        "refused: 1 more times",
    ]
