"""The limits of a store on its number of streams and on their bytes.

`decide` checks the limit of a single stream. A store calls `Quota.admit` for the limits that all streams share, with the numbers of its newest
states. These include records in flight, so simultaneous writers cannot exceed a limit.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from ...errors import StorageFull, TooManyRequests
from ..commands import Append, Command, Delete, Expire
from ..state import Appended, Change, Created, Removed

#: Seconds after which a client may retry a write that has no room. The room comes back when somebody deletes a stream, or one expires.
_RETRY_FULL: Final = 5


class Usage(msgspec.Struct, frozen=True):
    """The streams of a store and their bytes, records in flight included.

    Attributes:
        streams: the number of streams. A deleted stream counts until its last fork is deleted, because its bytes are kept until then. The
            registry counts too.
        bytes: the bytes of all these streams in wire form, without those that forks inherit.
    """

    streams: int
    bytes: int


class Quota(msgspec.Struct, frozen=True):
    """The limits of one store. None means no limit.

    Attributes:
        max_streams: maximum number of streams.
        max_stream_bytes: maximum bytes of one stream, without those that a fork inherits.
        max_total_bytes: maximum bytes of all streams together.

    Raises:
        ValueError: a limit is below 1.
    """

    max_streams: int | None = None
    max_stream_bytes: int | None = None
    max_total_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1")

    @property
    def is_shared(self) -> bool:
        """Whether there is a limit that all streams share, so that the store must call `admit`."""
        return self.max_streams is not None or self.max_total_bytes is not None

    def admit(self, command: Command, changes: Sequence[Change], streams: int, stored: int) -> None:
        """Refuses a record that would exceed a limit that all streams share.

        Deletes, expiry and closes without data always pass, even if they cause an event in the registry or in a wake stream. Other
        events count, so that workers cannot fill the store with them.

        Args:
            command: the command that the changes come from.
            changes: the changes of the record.
            streams: the number of streams before the record.
            stored: the bytes of all streams before the record.

        Raises:
            TooManyRequests: TOO_MANY_STREAMS.
            StorageFull: STORE_FULL.
        """
        most = self.max_total_bytes
        if len(changes) == 1:  # usually an append that fits, which must take no time
            change = changes[0]
            if type(change) is Appended and (most is None or stored + len(change.data) <= most):
                return
        if isinstance(command, Delete | Expire) or (
            isinstance(command, Append) and not command.has_body
        ):
            return
        begun = added = 0
        for change in changes:
            if isinstance(change, Appended):
                added += len(change.data)
            elif isinstance(change, Created):
                begun += 1
            elif isinstance(change, Removed):
                begun -= 1  # its bytes are not subtracted, because the sweep of expired streams will free them soon
        if self.max_streams is not None and begun > 0 and streams + begun > self.max_streams:
            raise TooManyRequests(
                "the store has too many streams", "TOO_MANY_STREAMS", retry_after=_RETRY_FULL
            )
        if most is not None and added and stored + added > most:
            raise StorageFull("the store has no room for this data", retry_after=_RETRY_FULL)
