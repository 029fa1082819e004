"""Tests of `pop_message`, which removes the first message from a receive buffer."""

from benchmarks.client import pop_message

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4"
_ANSWER = _HEAD + b"\r\n\r\nbody"


def test_pop_message_returns_none_until_the_message_is_complete() -> None:
    buffer = bytearray()
    for octet in _ANSWER[:-1]:
        buffer.append(octet)
        assert pop_message(buffer) is None
    buffer += _ANSWER[-1:]
    assert pop_message(buffer) == (_HEAD, b"body")
    assert not buffer


def test_pop_message_leaves_the_next_message_in_the_buffer() -> None:
    buffer = bytearray(_ANSWER + _ANSWER[:7])
    assert pop_message(buffer) == (_HEAD, b"body")
    assert buffer == _ANSWER[:7]


def test_pop_message_without_content_length_returns_an_empty_body() -> None:
    buffer = bytearray(b"HTTP/1.1 204 No Content\r\n\r\n" + _ANSWER)
    assert pop_message(buffer) == (b"HTTP/1.1 204 No Content", b"")
    assert pop_message(buffer) == (_HEAD, b"body")
