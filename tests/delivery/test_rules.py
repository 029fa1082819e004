"""Each rule finds its violations in histories made by hand, and finds nothing in sound ones."""

import pytest

from tests.delivery.history import (
    Answered,
    Answering,
    Asked,
    BadSignature,
    Copied,
    Delivered,
    Down,
    Gone,
    Linked,
    Record,
    Repaired,
    Replied,
    Restored,
    Seen,
    Stepped,
    Subscribed,
    Tail,
    Told,
    Unsubscribed,
    Up,
    Wrong,
)
from tests.delivery.judge import judge

START, ONE, TWO, THREE = (f"{7:016d}_{position:016d}" for position in (0, 10, 20, 30))
NEXT_LIFE, NEXT_TAIL = (f"{8:016d}_{position:016d}" for position in (0, 10))


class Made:
    """A history with one subscription `s` to one stream `a`, and a lease of a second."""

    def __init__(self, kind: str = "webhook") -> None:
        self.kind = kind
        self.number = 0
        self.records: list[Record] = [
            Up(at=0.0),
            Tail(at=0.0, path="a", offset=START),
            Subscribed(at=0.0, sub="s", kind=kind, lease=1.0),
            Linked(at=0.0, sub="s", path="a", cursor=START),
        ]

    def add(self, *records: Record) -> "Made":
        self.records += records
        return self

    def tail(self, at: float, offset: str) -> "Made":
        return self.add(Tail(at=at, path="a", offset=offset))

    def told(self, at: float, generation: int, acked: str, tail: str, name: str = "") -> "Made":
        """Adds a delivery, or a claim that took 0.01 s."""
        self.number += 1
        wake_id, told = name or f"w{generation}", (("a", acked, tail),)
        if self.kind == "webhook":
            return self.add(
                Delivered(
                    at=at,
                    number=self.number,
                    sub="s",
                    wake_id=wake_id,
                    generation=generation,
                    told=told,
                )
            )
        return self.claim(at, 200, wake_id, generation, told)

    def claim(
        self, at: float, status: int, wake_id: str = "", generation: int = 0, told: Told = ()
    ) -> "Made":
        self.number += 1
        return self.add(
            Asked(at=at - 0.01, number=self.number, sub="s", what="claim"),
            Replied(
                at=at,
                number=self.number,
                status=status,
                code="" if status == 200 else "NOTHING_TO_CLAIM",
                wake_id=wake_id,
                generation=generation,
                told=told,
            ),
        )

    def answer(self, at: float, how: str, is_open: bool = True) -> "Made":
        """Answers the last delivery."""
        self.add(Answering(at=at, number=self.number, how=how, is_open=is_open))
        return self.add(Answered(at=at, number=self.number)) if is_open else self

    def ack(
        self, at: float, generation: int, offset: str = "", done: bool = True, status: int = 200
    ) -> "Made":
        """Acknowledges by callback or by ack, within 0.01 s; the numbers of requests begin at 1,000."""
        number = 1000 + len(self.records)
        return self.add(
            Asked(
                at=at,
                number=number,
                sub="s",
                what="callback" if self.kind == "webhook" else "ack",
                wake_id=f"w{generation}",
                generation=generation,
                acks=(("a", offset),) if offset else (),
                done=done,
            ),
            Replied(at=at + 0.01, number=number, status=status),
        )

    def seen(self, at: float, cursor: str) -> "Made":
        return self.add(
            Seen(at=at, sub="s", since=at - 0.01, status="active", cursors=(("a", cursor),))
        )

    def end(self, at: float) -> "Made":
        """Adds a record that means nothing, so that rules look at the time."""
        return self.add(Stepped(at=at, seconds=0.0))


def rules(made: Made) -> list[str]:
    """Returns the names of the rules that are violated."""
    return sorted({each.rule for each in judge(made.records)})


def webhook() -> Made:
    """One append that was delivered and acknowledged."""
    made = Made().tail(1, ONE).told(1.1, 1, START, ONE)
    return made.answer(1.15, "taken").ack(1.2, 1, ONE)


def claimed() -> Made:
    """One append that a worker has claimed."""
    return Made("pull-wake").tail(1, ONE).told(1.1, 1, START, ONE)


SOUND = {
    "acknowledged by callback": webhook().seen(2, ONE).end(60),
    "answered done": Made().tail(1, ONE).told(1.1, 1, START, ONE).answer(1.2, "done").end(60),
    "the next wake": webhook().tail(3, TWO).told(3.1, 2, ONE, TWO).answer(3.2, "done").end(60),
    "claimed and acknowledged": claimed().ack(1.5, 1, ONE).claim(2, 409).end(60),
    "claimed again after the lease": claimed().told(2.2, 2, START, ONE).ack(2.4, 2, ONE),
    "refused after the lease": claimed().ack(3, 1, ONE, status=409).told(3.5, 2, START, ONE),
    "failed and delivered again": Made()
    .tail(1, ONE)
    .told(1.1, 1, START, ONE)
    .answer(1.2, "failed")
    .told(2.3, 1, START, ONE)
    .answer(2.4, "done"),
    "an answer that a kill may have lost": Made()
    .tail(1, ONE)
    .told(1.1, 1, START, ONE)
    .answer(1.2, "done")
    .add(Down(at=1.21, why="kill"), Tail(at=1.6, path="a", offset=ONE), Up(at=1.6))
    .told(1.7, 1, START, ONE)
    .answer(1.8, "done"),
    "an answer to a server that stood still beyond the lease": Made()
    .tail(1, ONE)
    .told(1.1, 1, START, ONE)
    .add(Down(at=1.2, why="pause"))
    .answer(1.3, "done")
    .add(Up(at=3.1))
    .seen(3.2, START)
    .told(4.5, 2, START, ONE)
    .answer(4.6, "done"),
    "told of a new stream before the answer to its create": Made()
    .add(Gone(at=0.5, path="a"))
    .told(0.9, 1, NEXT_LIFE, NEXT_TAIL)
    .answer(0.95, "done")
    .add(Linked(at=1, sub="s", path="a", cursor=NEXT_LIFE))
    .tail(1, NEXT_TAIL)
    .seen(3, NEXT_TAIL),
    "a failure that a killed server did not hear": Made()
    .tail(1, ONE)
    .add(Down(at=1.05, why="kill"))
    .told(1.1, 1, START, ONE)
    .answer(1.1, "failed")
    .told(1.5, 1, START, ONE)
    .add(Up(at=1.6))
    .answer(1.7, "done"),
    "a wake that the old server sends as it stops, and the new one again": Made()
    .tail(1, ONE)
    .add(Down(at=1.05, why="stop"))
    .told(1.1, 1, START, ONE)
    .answer(1.15, "done")
    .tail(1.16, TWO)
    .told(1.2, 2, ONE, TWO)
    .told(1.4, 3, ONE, TWO)
    .add(Up(at=1.6))
    .answer(1.7, "done"),
    "a delivery that a pause of the server has made late": Made()
    .tail(1, ONE)
    .add(Down(at=1.1, why="pause"), Up(at=2.0))
    .told(2.05, 1, START, ONE)
    .answer(2.1, "done")
    .tail(2.15, TWO)
    .told(2.2, 2, ONE, TWO)
    .told(2.3, 3, ONE, TWO)
    .answer(2.4, "done"),
    "forgotten with a restored directory": Made()
    .tail(1, ONE)
    .add(Down(at=1.01, why="kill"), Copied(at=1.02, name="c"), Up(at=1.1))
    .told(1.2, 1, START, ONE)
    .ack(1.3, 1, ONE)
    .add(Down(at=1.4, why="kill"), Restored(at=1.5, name="c"))
    .tail(1.6, ONE)
    .add(Up(at=1.6))
    .told(1.7, 1, START, ONE)
    .ack(1.8, 1, ONE),
}


@pytest.mark.parametrize("made", SOUND.values(), ids=SOUND)
def test_nothing_is_found_in_a_sound_history(made: Made) -> None:
    assert judge(made.records) == []


BROKEN = {
    "trial": [
        Made().add(Wrong(what="1 never acknowledged")),
        webhook().add(BadSignature(number=1, reason="bad_signature")),
    ],
    "2 cursors": [
        webhook().tail(3, TWO).told(3.1, 2, START, TWO),
        webhook().told(1.3, 2, ONE, ONE),
        webhook().seen(2, START),
        Made().tail(1, ONE).seen(1.1, ONE),
        Made()
        .tail(1, TWO)
        .told(1.1, 1, START, ONE)
        .answer(1.2, "done")
        .end(1.25)
        .told(1.3, 2, TWO, THREE),
        Made().tail(1, ONE).told(1.1, 1, START, ONE).answer(1.2, "done").told(4.0, 2, START, ONE),
        claimed().ack(1.2, 1, ONE).tail(1.3, TWO).told(1.5, 2, START, TWO),
    ],
    "3 snapshots": [
        Made()
        .tail(1, ONE)
        .told(1.1, 1, START, ONE)
        .answer(1.2, "failed")
        .tail(1.3, TWO)
        .told(2.3, 1, START, TWO),
        webhook().tail(3, TWO).told(3.1, 2, ONE, TWO, "w1"),
        webhook().tail(3, TWO).told(3.1, 1, ONE, TWO, "another"),
        Made()
        .add(Down(at=0.5, why="stop"), Copied(at=0.5, name="c"), Up(at=0.6))
        .tail(1, ONE)
        .told(1.1, 1, START, ONE)
        .ack(1.2, 1, ONE)
        .add(Down(at=2, why="kill"), Restored(at=2, name="c"), Tail(at=2, path="a", offset=START))
        .add(Up(at=2.1))
        .tail(2.2, TWO)
        .told(2.3, 1, START, TWO),
    ],
    "4 fencing": [
        webhook().ack(1.4, 1, ONE),
        claimed().ack(3.0, 1, ONE),
        claimed().told(2.2, 2, START, ONE).ack(2.3, 1, ONE),
        claimed().add(Unsubscribed(at=1.2, sub="s")).ack(1.3, 1, ONE),
        Made()
        .add(Down(at=0.5, why="stop"), Copied(at=0.5, name="c"), Up(at=0.6))
        .tail(1, ONE)
        .told(1.1, 1, START, ONE)
        .add(Down(at=2, why="kill"), Restored(at=2, name="c"), Tail(at=2, path="a", offset=START))
        .add(Up(at=2.1))
        .ack(2.2, 1, ONE),
    ],
    "5 leases": [
        claimed().told(1.6, 2, START, ONE),
        claimed().ack(1.9, 1, done=False).told(2.5, 2, START, ONE),
        Made().tail(1, ONE).told(1.1, 1, START, ONE).told(1.3, 2, START, ONE),
        claimed().add(Stepped(at=1.2, seconds=3600)).told(1.6, 2, START, ONE),
        claimed()
        .ack(1.2, 1, done=False)
        .add(Down(at=1.3, why="kill"), Up(at=1.4))
        .told(1.5, 2, START, ONE),
    ],
    "6 promptness": [
        Made().tail(1, ONE).end(4.5),
        webhook().tail(3, TWO).end(6.5),
        Made().tail(1, ONE).told(1.1, 1, START, ONE).answer(1.2, "failed").end(6),
        Made("pull-wake").tail(1, ONE).claim(5, 409),
        Made().tail(1, ONE).add(Down(at=1.1, why="kill"), Up(at=30)).end(34),
    ],
    "7 rate": [
        Made().tail(1, ONE).told(1.1, 1, START, ONE).answer(1.2, "failed").told(1.5, 1, START, ONE),
        Made()
        .tail(1, ONE)
        .told(1.1, 1, START, ONE)
        .answer(1.1, "taken")
        .ack(1.11, 1)
        .told(1.2, 2, START, ONE)
        .answer(1.2, "taken")
        .ack(1.21, 2)
        .told(1.3, 3, START, ONE),
    ],
    "8, 9 answers": [
        Made().tail(1, ONE).told(1.1, 1, START, ONE).answer(1.2, "gzip").told(2.2, 2, START, ONE),
        Made()
        .tail(1, ONE)
        .told(1.1, 1, START, ONE)
        .ack(1.7, 1, done=False)
        .answer(2.2, "done", is_open=False),
    ],
}
CASES = [(rule, made) for rule, cases in BROKEN.items() for made in cases]


@pytest.mark.parametrize(("rule", "made"), CASES, ids=[rule for rule, _ in CASES])
def test_violation_is_found_by_its_rule(rule: str, made: Made) -> None:
    assert rule in rules(made)


def test_a_repair_and_a_new_stream_at_the_path_excuse_an_earlier_cursor() -> None:
    repaired = webhook().add(Down(at=2, why="stop"), Repaired(at=2, path="a"))
    repaired.tail(2.5, NEXT_LIFE).add(Up(at=2.5))
    assert rules(repaired.seen(2.6, ONE)) == []
    assert rules(repaired.told(3, 2, START, NEXT_LIFE)) == []


def test_late_answer_for_an_earlier_subscription_bounds_no_cursor_of_the_next() -> None:
    made = (
        Made()
        .tail(1.0, TWO)
        .told(1.0, 1, START, ONE)
        .add(
            Unsubscribed(at=1.1, sub="s"),
            Answering(at=1.2, number=1, how="done", is_open=True),
            Answered(at=1.2, number=1),
            Subscribed(at=1.3, sub="s", kind="webhook", lease=1.0),
            Linked(at=1.3, sub="s", path="a", cursor=TWO),
        )
        .tail(1.4, THREE)
        .told(1.4, 1, TWO, THREE, "w_next")
    )
    assert judge(made.records) == []
