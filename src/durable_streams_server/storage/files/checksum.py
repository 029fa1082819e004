"""The checksum of everything on disk: CRC-32, with the same values as `zlib.crc32` of the standard library.

The implementation of zlib-ng uses instructions of the processor. It takes 0.02 ms for 1 MB, and the zlib of most systems takes 0.3 ms.
The speed matters, because each stored byte is checksummed twice, and again when it is replayed or first read.
"""

from zlib_ng.zlib_ng import crc32

__all__ = ["crc32"]
