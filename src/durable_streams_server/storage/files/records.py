"""The payload of a record: its changes in msgpack. The bytes of a large append are not copied into it but stand between its parts."""

from typing import Final

import msgspec

from ...protocol.state import Appended, Change
from .wal_format import LARGE, Payload

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_FEW: Final = 16  # an array of fewer has its length in one octet
_EMPTY: Final = b"\xc4\x00"  # no bytes, in msgpack


def has_large(changes: tuple[Change, ...]) -> bool:
    """Whether any of the changes adds so many bytes that they should not be copied."""
    for change in changes:  # noqa: SIM110  (a generator would cost each append more)
        if type(change) is Appended and len(change.data) >= LARGE:
            return True
    return False


def encode_in_parts(changes: tuple[Change, ...]) -> Payload:
    """Returns what msgspec's encoder makes of changes, with the bytes of large appends as parts of their own."""
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
    """Returns what stands before an append's bytes, and after them."""
    whole = _ENCODE(msgspec.structs.replace(change, data=b""))
    at = 2 + sum(len(_ENCODE(each)) for each in (change.path, change.incarnation, change.start))
    if whole[at : at + 2] != _EMPTY:
        raise AssertionError("an append is encoded in another order")
    return whole[:at] + b"\xc6" + len(change.data).to_bytes(4, "big"), whole[at + 2 :]
