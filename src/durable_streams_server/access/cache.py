"""Keeps the claims of tokens whose signatures the server has verified, because clients present the same token again and again.

Only valid tokens are kept, so invalid ones take no memory. When the cache is full, the token that was presented longest ago goes first.
"""

from collections import OrderedDict
from typing import Final

from ..protocol.permissions import Claims
from ..protocol.units import KIB, MIB

#: Maximum bytes of all tokens in the cache with their claims, enough for 8,000 tokens of usual size.
MAX_CACHED_BYTES: Final = 32 * MIB
#: Bytes that the claims of one token take, and those that each of its patterns takes in an index.
_CLAIMS_BYTES: Final = KIB
_PATTERN_BYTES: Final = 3 * KIB // 2


class TokenCache:
    """The claims of tokens, by the text of the token.

    Args:
        max_bytes: the approximate maximum of the memory.
    """

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, Claims] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, token: str, now: int) -> Claims | None:
        """Returns the claims of a token, or None if the cache does not have it or it has expired."""
        claims = self._kept.get(token)
        if claims is None:
            return None
        if claims.expires_at is not None and now >= claims.expires_at:
            self._drop(token)
            return None
        self._kept.move_to_end(token)
        return claims

    def put(self, token: str, claims: Claims) -> None:
        """Keeps the claims of a token, and drops others if the cache is full."""
        if token in self._kept:
            self._drop(token)
        self._kept[token] = claims
        self._bytes += _weight(token, claims)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forgets all tokens."""
        self._kept.clear()
        self._bytes = 0

    def _drop(self, token: str) -> None:
        self._bytes -= _weight(token, self._kept.pop(token))


def _weight(token: str, claims: Claims) -> int:
    """Returns the approximate number of bytes that a token and its claims take."""
    patterns = sum(len(grant.paths) for grant in claims.grants)
    return len(token) + _CLAIMS_BYTES + patterns * _PATTERN_BYTES
