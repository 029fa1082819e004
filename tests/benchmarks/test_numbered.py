"""Tests that the check of numbered messages finds every kind of fault, with any framing."""

import pytest

from benchmarks.numbered import MOST, Faults, Source, faults, faults_of_all, numbers


def _messages(source: int, count: int) -> list[bytes]:
    made = Source(source)
    return [made.next() for _ in range(count)]


def _events(messages: list[bytes]) -> bytes:
    """Returns messages as an event stream with control events, split into small chunks."""
    control = b'event: control\ndata:{"streamNextOffset":"0000000000000001_0000000000000050","streamCursor":"1234","upToDate":true}\n\n'
    stream = b"".join(b"event: data\ndata:[" + each + b"]\n\n" + control for each in messages)
    pieces = [stream[begin : begin + 17] for begin in range(0, len(stream), 17)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def _faults(messages: list[bytes], *sent: int) -> Faults:
    return faults(numbers(_events(messages)), sent)


def test_messages_are_json_of_equal_length() -> None:
    assert {len(each) for each in _messages(99_999, 3000)} == {24}
    assert _messages(7, 1) == [b'{"token":"!!!!+!!!!!!~"}']


def test_message_numbers_are_found_across_event_stream_chunks() -> None:
    assert numbers(bytearray(_events(_messages(3, 2)))) == b"00003000000~00003000001~"


def test_complete_messages_in_order_have_no_fault() -> None:
    assert _faults(_messages(0, 1500), 1500) == Faults()


def test_interleaved_messages_of_two_sources_have_no_fault() -> None:
    one, other = _messages(0, 3), _messages(1, 2)
    assert _faults([other[0], one[0], one[1], other[1], one[2]], 3, 2) == Faults()


def test_lost_message_is_counted() -> None:
    made = _messages(0, 5)
    assert _faults(made[:2] + made[3:], 5) == Faults(lost=1)
    assert _faults(made[:4], 5) == Faults(lost=1)
    assert _faults([], 5) == Faults(lost=5)


def test_duplicate_message_is_counted() -> None:
    made = _messages(0, 5)
    assert _faults([*made, made[4]], 5) == Faults(doubled=1)
    assert _faults([made[0], *made], 5) == Faults(doubled=1)


def test_message_out_of_order_is_counted() -> None:
    made = _messages(0, 5)
    assert _faults([made[0], made[2], made[1], *made[3:]], 5) == Faults(swapped=1)


def test_message_of_another_stream_is_counted_as_garbled() -> None:
    assert _faults([*_messages(0, 2), *_messages(1, 1)], 2) == Faults(garbled=1)
    assert faults(numbers(_events(_messages(4, 2))), [2], first=4) == Faults()
    assert faults(numbers(_events(_messages(3, 2))), [2], first=4) == Faults(lost=2, garbled=2)


def test_message_that_was_never_sent_is_counted_as_garbled() -> None:
    assert _faults(_messages(0, 3), 2) == Faults(garbled=1)


def test_truncated_message_is_counted_as_lost_and_garbled() -> None:
    cut = numbers(_events(_messages(0, 2)))[:-4]
    assert faults(cut, [2]) == Faults(lost=1, garbled=1)


def test_message_source_raises_an_error_after_its_last_number() -> None:
    source = Source(0)
    source.count = MOST
    with pytest.raises(ValueError, match="no numbers left"):
        source.next()


def test_readers_with_the_same_messages_have_no_fault() -> None:
    found = numbers(_events(_messages(0, 4)))
    assert faults_of_all([found] * 3, [4]) == Faults()


def test_message_lost_by_one_of_several_readers_is_counted() -> None:
    made = _messages(0, 4)
    whole, short = numbers(_events(made)), numbers(_events(made[1:]))
    assert faults_of_all([whole, short, whole], [4]) == Faults(lost=1)
    assert faults_of_all([short, whole, short], [4]) == Faults(lost=2)


def test_message_in_another_order_at_one_reader_is_counted_as_swapped() -> None:
    one, other = _messages(0, 1), _messages(1, 1)
    found = [numbers(_events(one + other)), numbers(_events(other + one))]
    assert faults_of_all(found, [1, 1]) == Faults(swapped=1)
