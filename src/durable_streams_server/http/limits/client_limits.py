"""`ClientLimits`: what clients may take of the server besides memory and connections."""

from typing import Final

import msgspec

from ...protocol.arguments import OPTIONAL_INT, require

#: Default maximum number of live reads: as many as connections. The limit also holds under host servers that count no connections.
#: A live read takes 4 KiB of memory, its connection included.
DEFAULT_MAX_LIVE_READERS: Final = 20_000
#: Default maximum number of live reads of one stream. All readers may follow the same stream.
DEFAULT_MAX_LIVE_READERS_PER_STREAM: Final = 20_000
#: Default maximum number of live reads of one client, which leaves room for others. One address may have as many connections.
DEFAULT_MAX_LIVE_READERS_PER_CLIENT: Final = 10_000
#: Default maximum number of subscriptions that one token has created: half of all, which leaves room for other tokens.
DEFAULT_MAX_SUBSCRIPTIONS_PER_TOKEN: Final = 50_000


class ClientLimits(msgspec.Struct, frozen=True):
    """What clients may take. A client is a token, or the address of clients without a token.

    Attributes:
        max_live_readers: maximum number of live reads that run at once.
        max_live_readers_per_stream: maximum number of live reads of one stream.
        max_live_readers_per_client: maximum number of live reads of one client.
        max_appends_per_second: maximum number of appends of one client in a second. A create counts as an append. None sets no limit.
        max_bytes_per_second: maximum bytes of appends and creates of one client in a second. None sets no limit.
        max_subscriptions_per_token: maximum number of subscriptions that one token has created. Clients without a token have no such limit.

    Raises:
        TypeError: a limit is not a whole number.
        ValueError: a limit is below 1.
    """

    max_live_readers: int = DEFAULT_MAX_LIVE_READERS
    max_live_readers_per_stream: int = DEFAULT_MAX_LIVE_READERS_PER_STREAM
    max_live_readers_per_client: int = DEFAULT_MAX_LIVE_READERS_PER_CLIENT
    max_appends_per_second: int | None = None
    max_bytes_per_second: int | None = None
    max_subscriptions_per_token: int = DEFAULT_MAX_SUBSCRIPTIONS_PER_TOKEN

    def __post_init__(self) -> None:
        require(int, max_live_readers=self.max_live_readers)
        require(int, max_live_readers_per_stream=self.max_live_readers_per_stream)
        require(int, max_live_readers_per_client=self.max_live_readers_per_client)
        require(OPTIONAL_INT, max_appends_per_second=self.max_appends_per_second)
        require(OPTIONAL_INT, max_bytes_per_second=self.max_bytes_per_second)
        require(int, max_subscriptions_per_token=self.max_subscriptions_per_token)
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, but must be at least 1")

    @property
    def has_rates(self) -> bool:
        """Whether clients have a limit of appends or bytes in a second."""
        return self.max_appends_per_second is not None or self.max_bytes_per_second is not None
