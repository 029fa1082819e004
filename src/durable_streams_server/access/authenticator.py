"""Recognises the clients of a server by their tokens and signed URLs.

    authenticator = Authenticator(token_file=Path("tokens.json"))
    claims = authenticator.authenticate(token, now)

What a client may do is decided elsewhere (`protocol/permissions.py`), and so is how requests carry tokens (`http/`). A token is a
secret, so it appears in no log, no message and no exception of this folder.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import NoneType

from ..errors import Unavailable
from ..protocol.arguments import OPTIONAL_TEXT, require, require_callable
from ..protocol.permissions import Claims
from ..storage.ticket import Ticket
from . import token_file
from .cache import TokenCache
from .jwt_rules import JwtRules
from .key_sources import RETRY_SECONDS, KeyFile, KeySource, KeyUrl
from .places import is_url
from .signed_urls import verify_url
from .static_tokens import StaticTokens, invalid_token

#: Creates the source of keys at a place, which calls a function when the keys have changed.
OpenKeys = Callable[[str, Callable[[], None]], KeySource]


def open_keys(place: str, on_change: Callable[[], None]) -> KeySource:
    """Returns the source of the keys in a file or at a URL.

    Raises:
        ValueError: the file is broken, or the URL is not allowed.
    """
    if is_url(place):
        return KeyUrl(place, on_change)
    return KeyFile(Path(place), on_change)


class Authenticator:
    """Recognises clients. Belongs to one event loop after `start`. Call `aclose` at the end.

    Args:
        tokens: the file of static tokens, or None.
        keys: the file or the URL of the key set of an identity provider, or None.
        rules: what JSON Web Tokens must fulfil. Needed with `keys`.
        open_keys: creates the source of keys.

    Attributes:
        generation: changes when a token that was valid may no longer be, so that decisions that others have cached must be made again.

    Raises:
        ValueError: a file cannot be read or is broken, or the arguments do not fit together. The message names the file.
    """

    def __init__(
        self,
        *,
        tokens: Path | None = None,
        keys: str | None = None,
        rules: JwtRules | None = None,
        open_keys: OpenKeys = open_keys,
    ) -> None:
        require((Path, NoneType), tokens=tokens)
        require(OPTIONAL_TEXT, keys=keys)
        require((JwtRules, NoneType), rules=rules)
        require_callable(open_keys=open_keys)
        if tokens is None and keys is None:
            raise ValueError("access control needs a file of tokens or the keys of a provider")
        if (keys is None) != (rules is None):
            raise ValueError(
                "the keys of a provider need an issuer and an audience, and vice versa"
            )
        self.generation = 0
        places = {"tokens": tokens, "jwks": keys}
        self.kinds = tuple(kind for kind, place in places.items() if place is not None)
        self._path = tokens
        self._static = StaticTokens() if tokens is None else _load(tokens)
        self._rules = rules
        self._cache = TokenCache()
        self._source: KeySource | None = None
        if keys is not None:
            import_module(
                ".json_tokens", __package__
            )  # in 100 ms, for which no request should wait
            self._source = open_keys(keys, self._forget)

    def start(self) -> None:
        """Begins to keep the keys of a provider up to date, on the running event loop."""
        if self._source is not None:
            self._source.start()

    async def aclose(self) -> None:
        """Ends all work on the event loop."""
        if self._source is not None:
            await self._source.aclose()

    def authenticate(self, token: str, now: int) -> Claims | Ticket[Claims]:
        """Returns the claims of a token. Returns a ticket only if the keys of the provider must be fetched first.

        Args:
            token: the text that the client has sent.
            now: microseconds since 1970.

        Raises:
            Unauthorized: INVALID_TOKEN if the token is not valid, TOKEN_EXPIRED if it has expired.
            Unavailable: KEYS_UNAVAILABLE if the keys could not be fetched since the start.
        """
        known = self._cache.get(token, now)
        if known is not None:
            return known
        if "." not in token or self._rules is None or self._source is None:
            return self._static.verify(token, now)  # a static token has no dot
        claims = self._verify(token, now)
        if claims is not None:
            return claims
        fetched = self._source.refreshed()
        if fetched is None:
            raise self._without_key()
        return fetched.then(lambda _: self._verify_again(token, now))

    def verify_url(self, path: str, query: bytes, now: int) -> Claims | None:
        """Returns the claims of a request with a signed URL, or None if its query has no signature.

        Args:
            path: the decoded path of the request below the mount.
            query: the query of the request, percent-encoded.
            now: microseconds since 1970.

        Raises:
            Unauthorized: INVALID_TOKEN if the signature is not valid for this path, TOKEN_EXPIRED if its time is over.
        """
        return verify_url(self._static, path, query, now)

    def knows(self, subject: str) -> bool:
        """Returns whether there is a static token with this subject, expired or not."""
        return self._static.knows(subject)

    def reload(self) -> None:
        """Reads the files again, and begins to fetch the keys again. Each file that is broken stays as it was read before.

        Raises:
            ValueError: a file cannot be read or is broken. The message names it.
        """
        problems = []
        if self._path is not None:
            try:
                self._static = _load(self._path)
            except ValueError as error:
                problems.append(f"the old tokens stay in use: {error}")
        if self._source is not None:
            try:
                self._source.reload()
            except ValueError as error:
                problems.append(f"the old keys stay in use: {error}")
        self._forget()
        if problems:
            raise ValueError("; ".join(problems))

    def _verify(self, token: str, now: int) -> Claims | None:
        """Returns the claims of a JSON Web Token, or None if its key is missing.

        Raises:
            Unauthorized: the token is not valid.
        """
        from .json_tokens import UnknownKey, verify

        assert self._source is not None
        assert self._rules is not None
        try:
            claims = verify(token, self._source.keys, self._rules, now)
        except UnknownKey:
            return None
        self._cache.put(token, claims)
        return claims

    def _verify_again(self, token: str, now: int) -> Ticket[Claims]:
        """Returns the claims of a token after a fetch of the keys."""
        claims = self._verify(token, now)
        if claims is None:
            return Ticket.failed(self._without_key())
        return Ticket.of(claims)

    def _without_key(self) -> Exception:
        """Returns the error for a token whose key is missing."""
        assert self._source is not None
        if self._source.keys is None:
            return Unavailable(
                "the keys that verify tokens could not be fetched yet",
                "KEYS_UNAVAILABLE",
                retry_after=int(RETRY_SECONDS),
            )
        return invalid_token()

    def _forget(self) -> None:
        """Verifies all tokens again from now on."""
        self.generation += 1
        self._cache.clear()


def _load(path: Path) -> StaticTokens:
    """Returns the tokens of a file.

    Raises:
        ValueError: the file cannot be read or is broken.
    """
    try:
        return StaticTokens(token_file.load(path))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
