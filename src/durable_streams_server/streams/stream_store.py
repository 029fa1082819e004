"""`StreamStore`: the memory store with plain functions, for programs that have no server or share a store with one."""

from ..protocol.arguments import OPTIONAL_INT, require, require_callable
from ..protocol.limits import DEFAULT_MAX_PRODUCERS
from ..storage.memory import MemoryStore
from .clock import Clock, system_clock
from .synchronous import SynchronousStore


class StreamStore(SynchronousStore, MemoryStore):
    """Streams in memory, for as long as the process lives.

    Args:
        max_bytes: stream data to hold at most; past it, appends are refused with 507. None for no limit.
        max_producers: idempotent producers per stream; a further one is refused with 429.
        clock: what time it is, in microseconds of Unix time.
    """

    def __init__(
        self,
        *,
        max_bytes: int | None = None,
        max_producers: int = DEFAULT_MAX_PRODUCERS,
        clock: Clock = system_clock,
    ) -> None:
        require(OPTIONAL_INT, max_bytes=max_bytes)
        require(int, max_producers=max_producers)
        require_callable(clock=clock)
        super().__init__(max_bytes=max_bytes, max_producers=max_producers)
        self._begin_calls(clock)
