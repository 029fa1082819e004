"""Numbered messages, and a check that each message arrives once and in order.

A message contains the number of its source, which is a writer or a stream, and its own number within the source. Both numbers are
written with ten characters that no server uses for framing. So deleting all other bytes leaves the numbers, however a server packs
messages into events and splits events into chunks.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

MARK: Final = b"~"  # ends each number and occurs nowhere else, so counting it counts messages
MOST: Final = 1_000_000  # maximum number of messages of one source
_DIGITS: Final = b"!#$%()*+;="
_WIDTH: Final = 12  # bytes of a number: 5 digits for the source, 6 for the message, and the mark
_PLAIN: Final = bytes.maketrans(_DIGITS, b"0123456789")
_SPELT: Final = bytes.maketrans(b"0123456789", _DIGITS)
_FRAMING: Final = bytes(set(range(256)) - set(_DIGITS + MARK))
_NUMBER: Final = re.compile(rb"(\d{5})(\d{6})~")
_TRIPLES: Final = [(b"%03d" % number).translate(_SPELT) for number in range(1000)]


class Faults(NamedTuple):
    """The faults in the messages that readers have received.

    Attributes:
        lost: the number of messages that did not arrive.
        doubled: the number of messages that arrived again.
        swapped: the number of messages that arrived after a later message of their source.
        garbled: the number of messages that no writer wrote.
    """

    lost: int = 0
    doubled: int = 0
    swapped: int = 0
    garbled: int = 0

    @property
    def total(self) -> int:
        """The total number of faults."""
        return sum(self)


class Source:
    """Makes the messages of one source, numbered from 0."""

    def __init__(self, number: int) -> None:
        self._begin = b'{"token":"' + (b"%05d" % number).translate(_SPELT)
        self.count = 0  # the number of messages made so far

    def next(self) -> bytes:
        """Returns the next message, which is a JSON object. All messages have the same length.

        Raises:
            ValueError: the source has made `MOST` messages.
        """
        count = self.count
        if count == MOST:
            raise ValueError("a source has no numbers left")
        self.count = count + 1
        return b'%b%b%b~"}' % (self._begin, _TRIPLES[count // 1000], _TRIPLES[count % 1000])


def numbers(received: bytes | bytearray) -> bytes:
    """Returns the numbers in the bytes of a response body, in decimal digits with a mark after each."""
    return bytes(received.translate(_PLAIN, _FRAMING))


def faults(found: bytes, sent: Sequence[int], first: int = 0) -> Faults:
    """Returns the faults in what one reader has received.

    Args:
        found: the numbers that the reader has received.
        sent: the number of messages of each source that the reader follows.
        first: the number of the first of these sources. The others have the next numbers.
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
    """Returns the faults in what the readers of one stream have received. All readers must have the same order.

    Args:
        found: the numbers that each reader has received.
        sent: the number of messages of each source.
    """
    total = Faults()
    order = b""  # the order of the first reader without faults
    for each in found:
        wrong = Faults() if each == order else faults(each, sent)
        if not wrong.total and each != order:
            wrong = Faults(swapped=1) if order else wrong
            order = order or each
        total = Faults(*(a + b for a, b in zip(total, wrong, strict=True)))
    return total
