"""Encodes the payload of a record: its changes in msgpack. The bytes of large appends are separate parts, so they are never copied."""

from typing import Final

import msgspec

from ...protocol.state import Appended, Change
from .wal_format import LARGE, Payload

_ENCODE: Final = msgspec.msgpack.Encoder().encode
#: A msgpack array of fewer elements has its length in its first byte.
_FEW: Final = 16
#: The msgpack encoding of an empty byte string.
_EMPTY: Final = b"\xc4\x00"


def has_large(changes: tuple[Change, ...]) -> bool:
    """Returns whether any change appends so many bytes that they must not be copied."""
    for change in changes:  # noqa: SIM110  (a generator would make each append slower)
        if type(change) is Appended and len(change.data) >= LARGE:
            return True
    return False


def encode_in_parts(changes: tuple[Change, ...]) -> Payload:
    """Returns the msgpack encoding of changes in parts. The bytes of each large append are a part of their own."""
    count = len(changes)
    small = bytes([0x90 | count]) if count < _FEW else b"\xdc" + count.to_bytes(2, "big")
    parts: list[bytes] = []
    for change in changes:
        if isinstance(change, Appended) and len(change.data) >= LARGE:
            before, after = _around_data(change)
            parts += (small + before, change.data)
            small = after
        else:
            small += _ENCODE(change)
    return (*parts, small)


def _around_data(change: Appended) -> tuple[bytes, bytes]:
    """Returns the part of an append's encoding before the appended bytes, and the part after them."""
    whole = _ENCODE(msgspec.structs.replace(change, data=b""))
    at = 2 + sum(len(_ENCODE(each)) for each in (change.path, change.incarnation, change.start))
    if whole[at : at + 2] != _EMPTY:
        raise AssertionError("an append is encoded in another order")
    return whole[:at] + b"\xc6" + len(change.data).to_bytes(4, "big"), whole[at + 2 :]
