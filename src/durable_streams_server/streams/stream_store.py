"""`StreamStore`: the memory store with plain functions, for programs that have no server, or that share the store with a server."""

from ..protocol.arguments import OPTIONAL_INT, require, require_callable
from ..protocol.limits import DEFAULT_MAX_PRODUCERS
from ..storage.memory import MemoryStore
from .clock import Clock, system_clock
from .synchronous import SynchronousStore


class StreamStore(SynchronousStore, MemoryStore):
    """Keeps streams in memory until the process ends.

    Args:
        max_bytes: maximum bytes of stream data. The store refuses appends beyond it with StorageFull (507). None means no limit.
        max_producers: maximum number of idempotent producers per stream. The store refuses further producers with TooManyRequests (429).
        clock: returns the wall-clock time in microseconds of Unix time.
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
