"""Settings of what clients may take: bodies, memory and connections. docs/limits.md has the reasons."""

import dataclasses
from typing import Final

import click

from ...http.limits.admission import DEFAULT_MAX_CONNECTIONS
from ...protocol.limits import (
    DEFAULT_BODY_TIMEOUT,
    DEFAULT_MAX_BODY,
    DEFAULT_MAX_IN_FLIGHT,
    DEFAULT_MAX_UNSENT,
)
from ...protocol.units import MIB
from ..values import SECONDS, Size
from .definition import Topic, setting
from .sources import Sources

#: Maximum value of `--max-body`, because a record of such a body must fit a segment of the largest write-ahead log.
_LARGEST_BODY: Final = 1000 * MIB
#: Maximum value of other limits, in bytes. No machine has more memory.
_LARGEST_LIMIT: Final = 1 << 40
#: Maximum value of the limits of stored bytes. No disk is larger.
_LARGEST_STORE: Final = 1 << 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits(Topic):
    """What clients may take."""

    max_body: int = setting(
        DEFAULT_MAX_BODY,
        "Bytes of one request body; a larger one is refused with 413.",
        kind=Size(1, _LARGEST_BODY),
    )
    body_timeout: float = setting(
        DEFAULT_BODY_TIMEOUT,
        "How long a client may pause within a request body; past it, 408.",
        kind=SECONDS,
        metavar="SECONDS",
    )
    max_in_flight: int = setting(
        DEFAULT_MAX_IN_FLIGHT,
        "Bytes of request bodies held at once, over all connections; past it, 503.",
        kind=Size(1, _LARGEST_LIMIT),
    )
    max_unsent: int = setting(
        DEFAULT_MAX_UNSENT,
        "Bytes held at once for readers that have not taken them; past it, large reads wait and the slowest readers are cut.",
        kind=Size(1, _LARGEST_LIMIT),
    )
    max_streams: int | None = setting(
        None,
        "Streams that the store may have, including deleted ones that are kept for their forks; past it, creates get 429.",
        kind=click.IntRange(min=1),
        metavar="COUNT",
        unset="no limit",
        example=1_000_000,
        reloadable=True,
    )
    max_stream_bytes: int | None = setting(
        None,
        "Bytes that one stream may have, without those that a fork inherits; past it, appends get 413.",
        kind=Size(1, _LARGEST_STORE),
        unset="no limit",
        example=1024 * MIB,
        reloadable=True,
    )
    max_total_bytes: int | None = setting(
        None,
        "Bytes that all streams together may have; past it, appends get 507 until streams are deleted or expire.",
        kind=Size(1, _LARGEST_STORE),
        unset="no limit, so the disk is the limit",
        example=100 * 1024 * MIB,
        reloadable=True,
    )
    max_connections: int | None = setting(
        None,
        "Connections open at once; a further one is refused with 503.",
        kind=click.IntRange(min=1),
        metavar="COUNT",
        unset=f"{DEFAULT_MAX_CONNECTIONS}, or as many as leave file handles for the store",
        example=DEFAULT_MAX_CONNECTIONS,
    )
    max_connections_per_address: int | None = setting(
        None,
        "Connections that one client address, or one /64 network of IPv6, may have open at once; past it, 503. "
        "Connections of a --trusted-proxy do not count.",
        kind=click.IntRange(min=1),
        metavar="COUNT",
        unset="half of --max-connections",
        example=DEFAULT_MAX_CONNECTIONS // 2,
    )

    def check(self, sources: Sources) -> None:
        """Refuses a body limit that no body could reach.

        Raises:
            click.UsageError: A body of `--max-body` could never be received.
        """
        if self.max_body > self.max_in_flight:
            raise click.UsageError(
                f"{sources.label('max_body')} {self.max_body} is above {sources.label('max_in_flight')} "
                f"{self.max_in_flight}: such a body could never be taken"
            )
