"""Tests that each rule finds its violations in histories written by hand, and nothing in correct histories."""

import pytest

from tests.delivery.history import (
    Answered,
    Answering,
    BadSignature,
    ClockSet,
    Copied,
    Delivered,
    Down,
    Failure,
    Inspected,
    Linked,
    Record,
    Repaired,
    Requested,
    Responded,
    Restored,
    Snapshot,
    StreamGone,
    Subscribed,
    Tail,
    Unsubscribed,
    Up,
)
from tests.delivery.judge import judge

START, ONE, TWO, THREE = (f"{7:016d}_{position:016d}" for position in (0, 10, 20, 30))
NEXT_LIFE, NEXT_TAIL = (f"{8:016d}_{position:016d}" for position in (0, 10))


class HistoryBuilder:
    """Builds a history with one subscription `s` to one stream `a`, and a lease of one second."""

    def __init__(self, kind: str = "webhook") -> None:
        self.kind = kind
        self.number = 0
        self.records: list[Record] = [
            Up(at=0.0),
            Tail(at=0.0, path="a", offset=START),
            Subscribed(at=0.0, sub="s", kind=kind, lease=1.0),
            Linked(at=0.0, sub="s", path="a", cursor=START),
        ]

    def add(self, *records: Record) -> "HistoryBuilder":
        self.records += records
        return self

    def tail(self, at: float, offset: str) -> "HistoryBuilder":
        return self.add(Tail(at=at, path="a", offset=offset))

    def handover(
        self, at: float, generation: int, acked: str, tail: str, name: str = ""
    ) -> "HistoryBuilder":
        """Adds a delivery, or a claim that took 0.01 s, of a wake that lists stream `a`."""
        self.number += 1
        wake_id, snapshot = name or f"w{generation}", (("a", acked, tail),)
        if self.kind == "webhook":
            return self.add(
                Delivered(
                    at=at,
                    number=self.number,
                    sub="s",
                    wake_id=wake_id,
                    generation=generation,
                    snapshot=snapshot,
                )
            )
        return self.claim(at, 200, wake_id, generation, snapshot)

    def claim(
        self,
        at: float,
        status: int,
        wake_id: str = "",
        generation: int = 0,
        snapshot: Snapshot = (),
    ) -> "HistoryBuilder":
        self.number += 1
        return self.add(
            Requested(at=at - 0.01, number=self.number, sub="s", what="claim"),
            Responded(
                at=at,
                number=self.number,
                status=status,
                code="" if status == 200 else "NOTHING_TO_CLAIM",
                wake_id=wake_id,
                generation=generation,
                snapshot=snapshot,
            ),
        )

    def answer(self, at: float, how: str, is_open: bool = True) -> "HistoryBuilder":
        """Adds the answer to the last delivery."""
        self.add(Answering(at=at, number=self.number, how=how, is_open=is_open))
        return self.add(Answered(at=at, number=self.number)) if is_open else self

    def ack(
        self, at: float, generation: int, offset: str = "", done: bool = True, status: int = 200
    ) -> "HistoryBuilder":
        """Adds a callback or an ack that took 0.01 s. The numbers of these requests begin at 1,000."""
        number = 1000 + len(self.records)
        return self.add(
            Requested(
                at=at,
                number=number,
                sub="s",
                what="callback" if self.kind == "webhook" else "ack",
                wake_id=f"w{generation}",
                generation=generation,
                acks=(("a", offset),) if offset else (),
                done=done,
            ),
            Responded(at=at + 0.01, number=number, status=status),
        )

    def seen(self, at: float, cursor: str) -> "HistoryBuilder":
        return self.add(
            Inspected(at=at, sub="s", since=at - 0.01, status="active", cursors=(("a", cursor),))
        )

    def end(self, at: float) -> "HistoryBuilder":
        """Adds a record that no rule uses. It only shows the rules a later time."""
        return self.add(ClockSet(at=at, seconds=0.0))


def violated_rules(history: HistoryBuilder) -> list[str]:
    """Returns the names of the violated rules."""
    return sorted({each.rule for each in judge(history.records)})


def webhook() -> HistoryBuilder:
    """Returns a history with one append that was delivered and acknowledged."""
    made = HistoryBuilder().tail(1, ONE).handover(1.1, 1, START, ONE)
    return made.answer(1.15, "taken").ack(1.2, 1, ONE)


def claimed() -> HistoryBuilder:
    """Returns a history with one append that a worker has claimed."""
    return HistoryBuilder("pull-wake").tail(1, ONE).handover(1.1, 1, START, ONE)


CORRECT = {
    "acknowledged by callback": webhook().seen(2, ONE).end(60),
    "answered done": HistoryBuilder()
    .tail(1, ONE)
    .handover(1.1, 1, START, ONE)
    .answer(1.2, "done")
    .end(60),
    "next wake": webhook().tail(3, TWO).handover(3.1, 2, ONE, TWO).answer(3.2, "done").end(60),
    "claimed and acknowledged": claimed().ack(1.5, 1, ONE).claim(2, 409).end(60),
    "claimed again after the lease": claimed().handover(2.2, 2, START, ONE).ack(2.4, 2, ONE),
    "refused after the lease": claimed().ack(3, 1, ONE, status=409).handover(3.5, 2, START, ONE),
    "failed and delivered again": HistoryBuilder()
    .tail(1, ONE)
    .handover(1.1, 1, START, ONE)
    .answer(1.2, "failed")
    .handover(2.3, 1, START, ONE)
    .answer(2.4, "done"),
    "answer that a kill may have lost": HistoryBuilder()
    .tail(1, ONE)
    .handover(1.1, 1, START, ONE)
    .answer(1.2, "done")
    .add(Down(at=1.21, why="kill"), Tail(at=1.6, path="a", offset=ONE), Up(at=1.6))
    .handover(1.7, 1, START, ONE)
    .answer(1.8, "done"),
    "answer while the server was suspended beyond the lease": HistoryBuilder()
    .tail(1, ONE)
    .handover(1.1, 1, START, ONE)
    .add(Down(at=1.2, why="pause"))
    .answer(1.3, "done")
    .add(Up(at=3.1))
    .seen(3.2, START)
    .handover(4.5, 2, START, ONE)
    .answer(4.6, "done"),
    "wake lists a new stream before its create is answered": HistoryBuilder()
    .add(StreamGone(at=0.5, path="a"))
    .handover(0.9, 1, NEXT_LIFE, NEXT_TAIL)
    .answer(0.95, "done")
    .add(Linked(at=1, sub="s", path="a", cursor=NEXT_LIFE))
    .tail(1, NEXT_TAIL)
    .seen(3, NEXT_TAIL),
    "failure that a killed server did not receive": HistoryBuilder()
    .tail(1, ONE)
    .add(Down(at=1.05, why="kill"))
    .handover(1.1, 1, START, ONE)
    .answer(1.1, "failed")
    .handover(1.5, 1, START, ONE)
    .add(Up(at=1.6))
    .answer(1.7, "done"),
    "wake that a stopping server sends, and the next server again": HistoryBuilder()
    .tail(1, ONE)
    .add(Down(at=1.05, why="stop"))
    .handover(1.1, 1, START, ONE)
    .answer(1.15, "done")
    .tail(1.16, TWO)
    .handover(1.2, 2, ONE, TWO)
    .handover(1.4, 3, ONE, TWO)
    .add(Up(at=1.6))
    .answer(1.7, "done"),
    "delivery that a pause of the server has delayed": HistoryBuilder()
    .tail(1, ONE)
    .add(Down(at=1.1, why="pause"), Up(at=2.0))
    .handover(2.05, 1, START, ONE)
    .answer(2.1, "done")
    .tail(2.15, TWO)
    .handover(2.2, 2, ONE, TWO)
    .handover(2.3, 3, ONE, TWO)
    .answer(2.4, "done"),
    "acknowledgement that a restore has undone": HistoryBuilder()
    .tail(1, ONE)
    .add(Down(at=1.01, why="kill"), Copied(at=1.02, name="c"), Up(at=1.1))
    .handover(1.2, 1, START, ONE)
    .ack(1.3, 1, ONE)
    .add(Down(at=1.4, why="kill"), Restored(at=1.5, name="c"))
    .tail(1.6, ONE)
    .add(Up(at=1.6))
    .handover(1.7, 1, START, ONE)
    .ack(1.8, 1, ONE),
}


@pytest.mark.parametrize("history", CORRECT.values(), ids=CORRECT)
def test_delivery_rules_find_no_violation_in_a_correct_history(history: HistoryBuilder) -> None:
    assert judge(history.records) == []


BROKEN = {
    "trial": [
        HistoryBuilder().add(Failure(what="1 never acknowledged")),
        webhook().add(BadSignature(number=1, reason="bad_signature")),
    ],
    "2 cursors": [
        webhook().tail(3, TWO).handover(3.1, 2, START, TWO),
        webhook().handover(1.3, 2, ONE, ONE),
        webhook().seen(2, START),
        HistoryBuilder().tail(1, ONE).seen(1.1, ONE),
        HistoryBuilder()
        .tail(1, TWO)
        .handover(1.1, 1, START, ONE)
        .answer(1.2, "done")
        .end(1.25)
        .handover(1.3, 2, TWO, THREE),
        HistoryBuilder()
        .tail(1, ONE)
        .handover(1.1, 1, START, ONE)
        .answer(1.2, "done")
        .handover(4.0, 2, START, ONE),
        claimed().ack(1.2, 1, ONE).tail(1.3, TWO).handover(1.5, 2, START, TWO),
    ],
    "3 snapshots": [
        HistoryBuilder()
        .tail(1, ONE)
        .handover(1.1, 1, START, ONE)
        .answer(1.2, "failed")
        .tail(1.3, TWO)
        .handover(2.3, 1, START, TWO),
        webhook().tail(3, TWO).handover(3.1, 2, ONE, TWO, "w1"),
        webhook().tail(3, TWO).handover(3.1, 1, ONE, TWO, "another"),
        HistoryBuilder()
        .add(Down(at=0.5, why="stop"), Copied(at=0.5, name="c"), Up(at=0.6))
        .tail(1, ONE)
        .handover(1.1, 1, START, ONE)
        .ack(1.2, 1, ONE)
        .add(Down(at=2, why="kill"), Restored(at=2, name="c"), Tail(at=2, path="a", offset=START))
        .add(Up(at=2.1))
        .tail(2.2, TWO)
        .handover(2.3, 1, START, TWO),
    ],
    "4 fencing": [
        webhook().ack(1.4, 1, ONE),
        claimed().ack(3.0, 1, ONE),
        claimed().handover(2.2, 2, START, ONE).ack(2.3, 1, ONE),
        claimed().add(Unsubscribed(at=1.2, sub="s")).ack(1.3, 1, ONE),
        HistoryBuilder()
        .add(Down(at=0.5, why="stop"), Copied(at=0.5, name="c"), Up(at=0.6))
        .tail(1, ONE)
        .handover(1.1, 1, START, ONE)
        .add(Down(at=2, why="kill"), Restored(at=2, name="c"), Tail(at=2, path="a", offset=START))
        .add(Up(at=2.1))
        .ack(2.2, 1, ONE),
    ],
    "5 leases": [
        claimed().handover(1.6, 2, START, ONE),
        claimed().ack(1.9, 1, done=False).handover(2.5, 2, START, ONE),
        HistoryBuilder().tail(1, ONE).handover(1.1, 1, START, ONE).handover(1.3, 2, START, ONE),
        claimed().add(ClockSet(at=1.2, seconds=3600)).handover(1.6, 2, START, ONE),
        claimed()
        .ack(1.2, 1, done=False)
        .add(Down(at=1.3, why="kill"), Up(at=1.4))
        .handover(1.5, 2, START, ONE),
    ],
    "6 promptness": [
        HistoryBuilder().tail(1, ONE).end(4.5),
        webhook().tail(3, TWO).end(6.5),
        HistoryBuilder().tail(1, ONE).handover(1.1, 1, START, ONE).answer(1.2, "failed").end(6),
        HistoryBuilder("pull-wake").tail(1, ONE).claim(5, 409),
        HistoryBuilder().tail(1, ONE).add(Down(at=1.1, why="kill"), Up(at=30)).end(34),
    ],
    "7 rate": [
        HistoryBuilder()
        .tail(1, ONE)
        .handover(1.1, 1, START, ONE)
        .answer(1.2, "failed")
        .handover(1.5, 1, START, ONE),
        HistoryBuilder()
        .tail(1, ONE)
        .handover(1.1, 1, START, ONE)
        .answer(1.1, "taken")
        .ack(1.11, 1)
        .handover(1.2, 2, START, ONE)
        .answer(1.2, "taken")
        .ack(1.21, 2)
        .handover(1.3, 3, START, ONE),
    ],
    "8, 9 answers": [
        HistoryBuilder()
        .tail(1, ONE)
        .handover(1.1, 1, START, ONE)
        .answer(1.2, "gzip")
        .handover(2.2, 2, START, ONE),
        HistoryBuilder()
        .tail(1, ONE)
        .handover(1.1, 1, START, ONE)
        .ack(1.7, 1, done=False)
        .answer(2.2, "done", is_open=False),
    ],
}
CASES = [(rule, made) for rule, cases in BROKEN.items() for made in cases]


@pytest.mark.parametrize(("rule", "history"), CASES, ids=[rule for rule, _ in CASES])
def test_each_delivery_rule_finds_a_history_that_violates_it(
    rule: str, history: HistoryBuilder
) -> None:
    assert rule in violated_rules(history)


def test_cursor_may_restart_for_a_stream_recreated_after_a_repair() -> None:
    repaired = webhook().add(Down(at=2, why="stop"), Repaired(at=2, path="a"))
    repaired.tail(2.5, NEXT_LIFE).add(Up(at=2.5))
    assert violated_rules(repaired.seen(2.6, ONE)) == []
    assert violated_rules(repaired.handover(3, 2, START, NEXT_LIFE)) == []


def test_late_answer_does_not_affect_cursors_of_a_recreated_subscription() -> None:
    history = (
        HistoryBuilder()
        .tail(1.0, TWO)
        .handover(1.0, 1, START, ONE)
        .add(
            Unsubscribed(at=1.1, sub="s"),
            Answering(at=1.2, number=1, how="done", is_open=True),
            Answered(at=1.2, number=1),
            Subscribed(at=1.3, sub="s", kind="webhook", lease=1.0),
            Linked(at=1.3, sub="s", path="a", cursor=TWO),
        )
        .tail(1.4, THREE)
        .handover(1.4, 1, TWO, THREE, "w_next")
    )
    assert judge(history.records) == []
