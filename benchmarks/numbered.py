"""Numbered messages, and the check that each of them came once and in order.

A message carries the number of its source, which is a writer or a stream, and its own number within that source. Both are spelt
in ten characters that no server's framing uses. So the numbers are found by deleting every other octet, whichever way a server
packs messages into events and cuts events into chunks.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

MARK: Final = b"~"  # ends a number, and occurs nowhere else: to count messages is to count it
MOST: Final = 1_000_000  # messages of one source
_DIGITS: Final = b"!#$%()*+;="
_WIDTH: Final = 12  # of a number: 5 digits for the source, 6 for the message, and the mark
_PLAIN: Final = bytes.maketrans(_DIGITS, b"0123456789")
_SPELT: Final = bytes.maketrans(b"0123456789", _DIGITS)
_FRAMING: Final = bytes(set(range(256)) - set(_DIGITS + MARK))
_NUMBER: Final = re.compile(rb"(\d{5})(\d{6})~")
_TRIPLES: Final = [(b"%03d" % number).translate(_SPELT) for number in range(1000)]


class Faults(NamedTuple):
    """What is wrong with the messages that one reader has had.

    Attributes:
        lost: messages that did not come.
        doubled: messages that came again.
        swapped: messages that came after a later one of their source.
        garbled: numbers that no writer wrote.
    """

    lost: int = 0
    doubled: int = 0
    swapped: int = 0
    garbled: int = 0

    @property
    def total(self) -> int:
        """How much is wrong in all."""
        return sum(self)


class Source:
    """Makes the messages of one source, the first of which has the number 0."""

    def __init__(self, number: int) -> None:
        self._begin = b'{"token":"' + (b"%05d" % number).translate(_SPELT)
        self.count = 0  # messages made

    def next(self) -> bytes:
        """Returns the next message, a JSON object; all messages have the same length. Raises ValueError after `MOST`."""
        count = self.count
        if count == MOST:
            raise ValueError("a source has no numbers left")
        self.count = count + 1
        return b'%b%b%b~"}' % (self._begin, _TRIPLES[count // 1000], _TRIPLES[count % 1000])


def numbers(received: bytes | bytearray) -> bytes:
    """Returns the numbers among the octets that a reader has received after the response's head, each in plain digits with its mark."""
    return bytes(received.translate(_PLAIN, _FRAMING))


def faults(found: bytes, sent: Sequence[int], first: int = 0) -> Faults:
    """Compares what a reader has had with what was sent.

    Args:
        found: the reader's `numbers`.
        sent: how many messages each source has sent, for the sources that the reader follows.
        first: the number of the first of these sources; the others follow it.
    """
    seen: list[set[int]] = [set() for _ in sent]
    latest = [-1] * len(sent)
    doubled = swapped = garbled = whole = 0
    for match in _NUMBER.finditer(found):
        whole += _WIDTH
        source, number = int(match[1]) - first, int(match[2])
        if not 0 <= source < len(sent) or number >= sent[source]:
            garbled += 1
        elif number in seen[source]:
            doubled += 1
        else:
            seen[source].add(number)
            if number < latest[source]:
                swapped += 1
            else:
                latest[source] = number
    lost = sum(sent) - sum(map(len, seen))
    return Faults(lost, doubled, swapped, garbled + (whole != len(found)))


def faults_of_all(found: Sequence[bytes], sent: Sequence[int]) -> Faults:
    """Compares what readers of one stream have had with what was sent, and with one another: all must have the same order."""
    total = Faults()
    order = b""  # of the first reader who lacks nothing
    for each in found:
        wrong = Faults() if each == order else faults(each, sent)
        if not wrong.total and each != order:
            wrong = Faults(swapped=1) if order else wrong
            order = order or each
        total = Faults(*(a + b for a, b in zip(total, wrong, strict=True)))
    return total
