"""The checksum of everything on disk: CRC-32, with the same values as the standard library's `zlib.crc32`.

zlib-ng's uses the processor's instructions for it: 1 MB takes 0.02 ms, and 0.3 ms with the zlib of most systems. Every byte that is
stored is checksummed twice, and once more when it is replayed or first read.
"""

from zlib_ng.zlib_ng import crc32

__all__ = ["crc32"]
