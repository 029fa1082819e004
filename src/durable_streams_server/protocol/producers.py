"""Decides whether to accept the stamp of an idempotent producer (PROTOCOL 5.2.1), by this table:

known state      request            verdict
none             seq = 0            accept
none             seq > 0            gap, expected 0
epoch e          epoch < e          fenced
epoch e          epoch > e, seq 0   accept, the new epoch begins
epoch e          epoch > e, seq > 0 bad request
epoch e, seq s   seq <= s           duplicate
epoch e, seq s   seq = s + 1        accept
epoch e, seq s   seq > s + 1        gap, expected s + 1
"""

import re
from typing import Final, NamedTuple, Protocol

from ..errors import BadRequest, ProducerFenced, SequenceGap
from .limits import MAX_SAFE_INTEGER, MAX_TOKEN_BYTES
from .names import PRODUCER_EPOCH, PRODUCER_EXPECTED_SEQ, PRODUCER_RECEIVED_SEQ

_INTEGER: Final = re.compile(rb"[0-9]{1,16}")


class Stamp(NamedTuple):
    """The producer id, epoch and sequence number of one append."""

    producer: bytes
    epoch: int
    seq: int


class ProducerState(NamedTuple):
    """The newest epoch of one producer, and the highest sequence number accepted in that epoch."""

    epoch: int
    seq: int


class Producers(Protocol):
    """The states of one stream's producers by id, in a dict or in a mapping that loads them on demand."""

    def get(self, name: bytes, /) -> ProducerState | None:
        """Returns the state of a producer, or None if it has appended nothing yet."""
        ...

    def __getitem__(self, name: bytes, /) -> ProducerState:
        """Returns the state of a producer that has appended before."""
        ...

    def __setitem__(self, name: bytes, state: ProducerState, /) -> None:
        """Sets the state of a producer."""
        ...

    def __len__(self) -> int:
        """Returns the number of producers."""
        ...


def parse_stamp(producer: bytes | None, epoch: bytes | None, seq: bytes | None) -> Stamp | None:
    """Parses the three producer headers, and returns None if the request has none of them.

    Raises:
        BadRequest: INVALID_PRODUCER, if a header is malformed or only some are given.
    """
    if producer is None and epoch is None and seq is None:
        return None
    if producer is None or epoch is None or seq is None:
        raise _invalid("Producer-Id, Producer-Epoch and Producer-Seq go together")
    if not producer or len(producer) > MAX_TOKEN_BYTES:
        raise _invalid(f"Producer-Id must have 1 to {MAX_TOKEN_BYTES} bytes")
    return Stamp(producer, _integer(epoch, "Producer-Epoch"), _integer(seq, "Producer-Seq"))


def is_duplicate(known: ProducerState | None, stamp: Stamp) -> bool:
    """Returns whether an append is a duplicate. False means that the append is to be accepted.

    Args:
        known: the state of the producer, or None.
        stamp: the stamp of the append.

    Raises:
        ProducerFenced: the producer has a newer epoch.
        SequenceGap: the stamp is not the next one of its epoch.
        BadRequest: INVALID_PRODUCER, if a new epoch does not begin with sequence number 0.
    """
    if known is None:
        if stamp.seq != 0:
            raise _gap(0, stamp.seq)
        return False
    if stamp.epoch < known.epoch:
        raise ProducerFenced(
            "a newer epoch of this producer is active",
            headers=[(PRODUCER_EPOCH, b"%d" % known.epoch)],
        )
    if stamp.epoch > known.epoch:
        if stamp.seq != 0:
            raise _invalid("a new epoch must begin with Producer-Seq 0")
        return False
    if stamp.seq <= known.seq:
        return True
    if stamp.seq != known.seq + 1:
        raise _gap(known.seq + 1, stamp.seq)
    return False


def _integer(text: bytes, name: str) -> int:
    if not _INTEGER.fullmatch(text) or (value := int(text)) > MAX_SAFE_INTEGER:
        raise _invalid(f"{name} must be a whole number up to 2^53-1")
    return value


def _gap(expected: int, received: int) -> SequenceGap:
    return SequenceGap(
        f"expected Producer-Seq {expected}",
        headers=[
            (PRODUCER_EXPECTED_SEQ, b"%d" % expected),
            (PRODUCER_RECEIVED_SEQ, b"%d" % received),
        ],
    )


def _invalid(message: str) -> BadRequest:
    return BadRequest(message, "INVALID_PRODUCER")
