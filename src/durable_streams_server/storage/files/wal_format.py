"""The format of the write-ahead log, which consists of numbered segments in a few preallocated files that are recycled.

A segment file begins with a header of one page. Records follow, each with these fields:

    mark u32 · payload length u32 · LSN u64 · durable LSN u64 · CRC of the previous record u32 · CRC u32 · payload

The mark and the seed of the CRC are derived from the segment's salt, a random number that is generated when a segment is started. A client
does not know the salt, so it cannot send bytes that would be mistaken for a record.

Each record carries the CRC of the record before it. So recovery never accepts a stale record from an earlier use of the segment, or a whole
record after a torn one, because the CRC of its predecessor does not match.

The durable LSN is the newest LSN that was known to be durable when the record was written. It distinguishes damage from a torn end. If a
later record states that a bad record was durable, the bad record was acknowledged, and the store must not start without it. If no record
states that, the bad record was never acknowledged, and the log ends before it.

The header of a segment is written together with its first record. A file whose header is all zeros has never been used, and a file
whose number is out of sequence is free.
"""

import struct
from typing import Final

RECORD: Final = struct.Struct("<IIQQI")  # the fields of a record before its CRC
CRC: Final = struct.Struct("<I")
#: Bytes that a record takes besides its payload.
OVERHEAD: Final = RECORD.size + CRC.size
HEAD: Final = struct.Struct("<IIQQII")  # all fields before the payload
#: The event loop neither copies nor checksums the data of a payload of this many bytes or more, because that takes about 0.5 ms per
#: MiB. Such a payload adds two buffers to a write. At most 64 MiB wait for a write, so a write stays below the system's limit of 1,024 buffers.
LARGE: Final = 256 * 1024
#: The payload of a record. A large one is a tuple of parts, so that it is never copied.
Payload = bytes | tuple[bytes, ...]


def size_of(payload: Payload) -> int:
    """Returns the size of a payload in bytes."""
    return sum(map(len, payload)) if isinstance(payload, tuple) else len(payload)
