"""Tests of idempotent producers, including a comparison with an independent model of PROTOCOL 5.2.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest, ProducerFenced, SequenceGap
from durable_streams_server.protocol.limits import MAX_SAFE_INTEGER
from durable_streams_server.protocol.producers import (
    ProducerState,
    Stamp,
    is_duplicate,
    parse_stamp,
)


def test_producer_stamp_is_parsed_from_its_three_headers() -> None:
    assert parse_stamp(None, None, None) is None
    assert parse_stamp(b"p", b"0", b"7") == Stamp(b"p", 0, 7)


@pytest.mark.parametrize(
    ("producer", "epoch", "seq"),
    [
        (b"p", b"0", None),
        (b"p", None, b"0"),
        (None, b"0", b"0"),
        (b"", b"0", b"0"),
        (b"p" * 257, b"0", b"0"),
        (b"p", b"", b"0"),
        (b"p", b"-1", b"0"),
        (b"p", b"0", b"+1"),
        (b"p", b"0", b"1.0"),
        (b"p", b"0", b" 1"),
        (b"p", b"0", b"%d" % (MAX_SAFE_INTEGER + 1)),
        (b"p", b"%d" % (MAX_SAFE_INTEGER + 1), b"0"),
    ],
)
def test_malformed_or_missing_producer_header_is_refused(
    producer: bytes | None, epoch: bytes | None, seq: bytes | None
) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_stamp(producer, epoch, seq)
    assert caught.value.code == "INVALID_PRODUCER"


def test_sequence_gap_error_has_the_expected_and_received_numbers() -> None:
    with pytest.raises(SequenceGap) as caught:
        is_duplicate(ProducerState(1, 4), Stamp(b"p", 1, 7))
    assert dict(caught.value.headers) == {
        b"producer-expected-seq": b"5",
        b"producer-received-seq": b"7",
    }


def test_fenced_producer_error_has_the_newest_epoch() -> None:
    with pytest.raises(ProducerFenced) as caught:
        is_duplicate(ProducerState(3, 0), Stamp(b"p", 2, 9))
    assert dict(caught.value.headers) == {b"producer-epoch": b"3"}


class Model:
    """An independent model of PROTOCOL 5.2.1, which records all accepted sequence numbers by epoch."""

    def __init__(self) -> None:
        self.accepted: dict[int, list[int]] = {}

    def answer(self, epoch: int, seq: int) -> str:
        """Accepts or refuses a request, and returns the verdict."""
        newest = max(self.accepted, default=None)
        if newest is not None and epoch < newest:
            return "fenced"
        numbers = self.accepted.get(epoch)
        if numbers is None:
            if seq == 0:
                self.accepted[epoch] = [0]
                return "new"
            return "gap" if newest is None else "bad"
        if seq in numbers:
            return "duplicate"
        if seq == len(numbers):
            numbers.append(seq)
            return "new"
        return "gap"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=40))
def test_producer_checks_match_a_model_for_any_request_sequence(
    requests: list[tuple[int, int]],
) -> None:
    model, known = Model(), None
    for epoch, seq in requests:
        stamp = Stamp(b"p", epoch, seq)
        try:
            verdict = "duplicate" if is_duplicate(known, stamp) else "new"
        except SequenceGap:
            verdict = "gap"
        except ProducerFenced:
            verdict = "fenced"
        except BadRequest:
            verdict = "bad"
        if verdict == "new":
            known = ProducerState(epoch, seq)
        assert verdict == model.answer(epoch, seq)
