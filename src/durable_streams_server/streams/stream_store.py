"""`StreamStore`: the memory store with plain functions, for programs that have no server, or that share the store with a server."""

from ..protocol.arguments import OPTIONAL_INT, require, require_callable
from ..protocol.decisions.quota import Quota
from ..protocol.limits import DEFAULT_MAX_PRODUCERS
from ..storage.memory import MemoryStore
from .clock import Clock, system_clock
from .synchronous import SynchronousStore


class StreamStore(SynchronousStore, MemoryStore):
    """Keeps streams in memory until the process ends.

    Args:
        max_streams: maximum number of streams. The store refuses further streams with TooManyRequests (429). None means no limit.
        max_stream_bytes: maximum bytes of one stream. The store refuses appends beyond it with TooLarge (413). None means no limit.
        max_total_bytes: maximum bytes of all streams. The store refuses appends beyond it with StorageFull (507). None means no limit.
        max_producers: maximum number of idempotent producers per stream. The store refuses further producers with TooManyRequests (429).
        clock: returns the wall-clock time in microseconds of Unix time.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a limit is below 1.
    """

    def __init__(
        self,
        *,
        max_streams: int | None = None,
        max_stream_bytes: int | None = None,
        max_total_bytes: int | None = None,
        max_producers: int = DEFAULT_MAX_PRODUCERS,
        clock: Clock = system_clock,
    ) -> None:
        require(OPTIONAL_INT, max_streams=max_streams, max_stream_bytes=max_stream_bytes)
        require(OPTIONAL_INT, max_total_bytes=max_total_bytes)
        require(int, max_producers=max_producers)
        require_callable(clock=clock)
        quota = Quota(max_streams, max_stream_bytes, max_total_bytes)
        super().__init__(max_producers=max_producers, quota=quota)
        self._begin_calls(clock)
