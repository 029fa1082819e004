"""The write-ahead log: numbered segments in a few files that are allocated ahead and used again.

A segment file begins with a header of one page; records follow:

    mark u32 · payload length u32 · LSN u64 · durable LSN u64 · CRC of the previous record u32 · CRC u32 · payload

Mark and CRC are seeded with the segment's salt, a number drawn anew whenever a segment is begun: what a client sends may look
like a record, but cannot be taken for one.

The chain of CRCs leaves no place for a stale record of an earlier lap, or for one orphaned behind a torn one: such a record
is whole, but does not follow. The durable LSN is what was known to be on disk when the record was written; it tells damage
from a torn end. A bad record that a later one calls durable was acknowledged once, and the store must not start without it;
a bad record that nobody vouches for was never acknowledged, and the log ends before it.

A segment's header is written together with its first record. A file whose header is all zeros has never been used; one whose
number is out of sequence is free.
"""

import struct
from typing import Final

RECORD: Final = struct.Struct("<IIQQI")
CRC: Final = struct.Struct("<I")
OVERHEAD: Final = RECORD.size + CRC.size
HEAD: Final = struct.Struct("<IIQQII")  # a record's head with its CRC
#: Bytes from which on a payload's data is neither copied nor checksummed on the loop: to do so takes about 0.5 ms for each MiB. One write
#: has two buffers for each, and what the store lets wait is 64 MiB, so that they stay below the 1,024 that the system takes.
LARGE: Final = 256 * 1024
#: A record's payload: whole, or in parts if it is large, so that nobody copies it.
Payload = bytes | tuple[bytes, ...]


def size_of(payload: Payload) -> int:
    """Returns how many bytes a payload has."""
    return sum(map(len, payload)) if isinstance(payload, tuple) else len(payload)
