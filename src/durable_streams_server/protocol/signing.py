"""stub"""

import msgspec


class Key(msgspec.Struct, frozen=True, array_like=True):
    """A key of the server."""

    kid: str
    seed: bytes
    secret: bytes
    created_at: int
    retired_at: int | None = None
