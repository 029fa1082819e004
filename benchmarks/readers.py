"""Event-stream readers that store what they receive. During a measurement they only receive; the checks come afterwards.

The readers append received pieces to large shared blocks. A list holds the reader and the time of each piece. The blocks are reused
by later readers, so that their memory is allocated only once.
"""

import select
import socket
import time
from array import array
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from .client import octets
from .numbered import MARK, numbers
from .stall.crowd import connect_from

_BLOCK: Final = 32 * 1024 * 1024
_BLOCKS: Final = 96  # maximum number of blocks, 3 GiB in all
_PIECE: Final = 1024 * 1024  # maximum bytes received at once
_TOGETHER: Final = 500  # connections opened before waiting for their responses
_SETTLE: Final = 0.5  # seconds in which the first control event arrives
_spare: list[bytearray] = []


class Readers:
    """Event-stream readers in one thread, which begin at the present tail and read until the `with` block ends.

    Args:
        port: the port of the server.
        paths: the path that each reader reads.

    Attributes:
        lost: the number of connections that the server has closed.
        last: the time at which the latest bytes arrived, in seconds of the monotonic clock.
        overflowed: whether the blocks were full, so that some checks were made during the measurement.
    """

    def __init__(self, port: int, paths: Sequence[str]) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._numbers: dict[int, int] = {}
        self._found: list[list[bytes]] = [[] for _ in paths]
        self._blocks = [_block()]
        self._view = memoryview(self._blocks[0])
        self._filled = 0  # bytes in the last block
        self._fills: list[int] = []  # bytes in the blocks before the last one
        self._count = 0  # the number of messages counted by `follow_until`
        self._counted = (0, 0)  # the block and the position in it at which counting continues
        self._taken = array("q")  # pieces: 32 bits of reader, 32 bits of size; -1 ends a block
        self.times = array("d")
        self.lost, self.last, self.overflowed = 0, 0.0, False
        try:
            for begin in range(0, len(paths), _TOGETHER):
                self._connect(port, begin, paths[begin : begin + _TOGETHER])
        except BaseException:
            self.close()
            raise
        self.follow(_SETTLE)
        self.forget()

    def follow(self, seconds: float) -> None:
        """Receives messages for some seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._receive(left)

    def follow_until(self, messages: int, patience: float) -> int:
        """Receives until `messages` messages have arrived, or until nothing arrives for `patience` seconds.

        Returns the number of messages since the last call of `forget` or `found`.
        """
        self.last = max(self.last, time.monotonic())
        while self._recount() < messages and (left := self.last + patience - time.monotonic()) > 0:
            self._receive(left)
        return self._count

    def pieces(self) -> list[tuple[int, float, bytes]]:
        """Returns the reader, the time and the numbers of each stored piece."""
        found, block, place, piece = [], iter(self._blocks), 0, 0
        kept = next(block)
        for taken in self._taken:
            if taken < 0:
                kept, place = next(block), 0
                continue
            size = taken & 0xFFFFFFFF
            found.append((taken >> 32, self.times[piece], numbers(kept[place : place + size])))
            place, piece = place + size, piece + 1
        return found

    def found(self) -> list[bytes]:
        """Returns the numbers that each reader has received, and drops everything stored."""
        for number, _, part in self.pieces():
            self._found[number].append(part)
        found = [b"".join(parts) for parts in self._found]
        self.forget()
        return found

    def forget(self) -> None:
        """Drops everything stored."""
        self._empty()
        self._count = 0
        self._found = [[] for _ in self._found]

    def close(self) -> None:
        """Closes all connections."""
        for opened in self._sockets.values():
            opened.close()
        self._poll.close()
        self._view.release()
        _spare.extend(self._blocks)

    def _connect(self, port: int, begin: int, paths: Sequence[str]) -> None:
        opened = []
        for number, path in enumerate(paths, begin):
            each = connect_from(port, number)
            self._sockets[each.fileno()] = each
            self._numbers[each.fileno()] = number
            each.sendall(octets("GET", f"{path}?offset=now&live=sse"))
            opened.append(each)
        for each in opened:
            head = b""
            # No message can follow the head, because no writer has started.
            while b"\r\n\r\n" not in head:
                head += each.recv(4096) or _closed()
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"a reader was refused: {head[:100]!r}")
            each.setblocking(False)
            self._poll.register(each.fileno(), select.EPOLLIN)

    def _receive(self, seconds: float) -> None:
        now, taken, times = time.monotonic, self._taken, self.times
        for handle, _ in self._poll.poll(seconds, 256):
            filled = self._filled
            try:
                size = self._sockets[handle].recv_into(self._view[filled : filled + _PIECE])
            except BlockingIOError:
                continue
            except ConnectionError:
                size = 0
            if not size:
                self.lost += 1
                self._poll.unregister(handle)
                continue
            taken.append(self._numbers[handle] << 32 | size)
            times.append(now())
            self._filled = filled + size
            if self._filled > _BLOCK - _PIECE:
                self._next_block()
        if times:
            self.last = times[-1]

    def _recount(self) -> int:
        """Counts the messages since the last call, and returns the total number of messages."""
        number, place = self._counted
        filled = [*self._fills, self._filled]  # the rest of a block holds old bytes
        for block, end in zip(self._blocks[number:], filled[number:], strict=True):
            self._count += block.count(MARK, place, end)
            place = 0
        self._counted = (len(self._blocks) - 1, self._filled)
        return self._count

    def _next_block(self) -> None:
        if len(self._blocks) == _BLOCKS:
            self.overflowed = True
            self._recount()
            for number, _, part in self.pieces():
                self._found[number].append(part)
            self._empty()
            return
        self._taken.append(-1)
        self._fills.append(self._filled)
        self._blocks.append(_block())
        self._view = memoryview(self._blocks[-1])
        self._filled = 0

    def _empty(self) -> None:
        self._taken, self.times = array("q"), array("d")
        _spare.extend(self._blocks[1:])
        del self._blocks[1:]
        self._fills.clear()
        self._view = memoryview(self._blocks[0])
        self._filled, self._counted = 0, (0, 0)

    def __enter__(self) -> "Readers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _block() -> bytearray:
    return _spare.pop() if _spare else bytearray(_BLOCK)


def _closed() -> bytes:
    raise ConnectionError("the server has closed the connection")
