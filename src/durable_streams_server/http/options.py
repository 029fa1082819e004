"""`HandlerOptions`: limits on requests and settings of responses, checked once when the application is created."""

import math
from typing import Final

import msgspec

from ..protocol.limits import DEFAULT_BODY_TIMEOUT, DEFAULT_MAX_BODY, DEFAULT_MAX_IN_FLIGHT
from ..protocol.names import DEFAULT_STREAM_ROOT
from .gate.access_control import OPEN_TO_ALL, AccessControl
from .limits.client_limits import ClientLimits
from .private import Privacy

LONGEST_CACHE_AGE: Final = (
    2**31 - 1
)  # seconds; caches need not accept a longer time (RFC 9111, 1.2.2)


class HandlerOptions(msgspec.Struct, frozen=True):
    """Limits on requests, and settings of responses.

    Attributes:
        stream_root: The path below which `__ds` is reserved.
        cors_origins: Origins whose scripts may call the server. `*` allows every origin, and `local` those of pages of this machine. An
            empty tuple allows none.
        shared_cache_age: Seconds that shared caches may keep a page that can change.
        max_body: Maximum bytes of one request body.
        max_in_flight: Maximum bytes of all request bodies held at once.
        compression: Whether to compress large pages with gzip for clients that accept it.
        body_timeout: Seconds that a client may pause within a body.
        privacy: Which caches may store reads. `private` is for a guard, and `secret` for access control by tokens.
        access: Who may reach the streams.
        read_only: Whether to refuse everything but reads. The application then uses `ReadOnlyHandler`.
        clients: What clients may take of the server.

    Raises:
        ValueError: A setting is out of range.
    """

    stream_root: str = DEFAULT_STREAM_ROOT
    cors_origins: tuple[str, ...] = ()
    shared_cache_age: int = 0
    max_body: int = DEFAULT_MAX_BODY
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    compression: bool = True
    body_timeout: float = DEFAULT_BODY_TIMEOUT
    privacy: Privacy = "shared"
    access: AccessControl = OPEN_TO_ALL
    read_only: bool = False
    clients: ClientLimits = ClientLimits()

    def __post_init__(self) -> None:
        if not 0 < self.body_timeout < math.inf:
            raise ValueError("body_timeout must be above zero")
        age = self.shared_cache_age
        if not 0 <= age <= LONGEST_CACHE_AGE:
            raise ValueError(
                f"shared_cache_age must be a whole number of seconds from 0 to {LONGEST_CACHE_AGE}"
            )
        if self.max_body < 1:
            raise ValueError("max_body must be at least 1")
        if self.max_body > self.max_in_flight:
            raise ValueError(
                f"max_body ({self.max_body}) must not be above max_in_flight ({self.max_in_flight}): "
                "a body of that size could never be taken"
            )
