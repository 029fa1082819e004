"""Where the keys of an identity provider come from: a file, or a URL that the server fetches again and again.

A source keeps the last good set of keys. `refreshed` is for a token whose key is not in the set: the provider may just have published
a new key. A URL is then fetched at most every 30 seconds, because anybody can invent key ids, and all requests wait for the same fetch.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from ..log import log as _log
from ..storage.ticket import Ticket

if TYPE_CHECKING:
    from .key_set import KeySet

#: Seconds between two fetches of a key set.
REFRESH_SECONDS: Final = 300.0
#: Minimum seconds between two fetches, however many unknown keys clients name.
UNKNOWN_KEY_SECONDS: Final = 30.0
#: Seconds between a failed fetch and the next one.
RETRY_SECONDS: Final = 10.0
_LOG_SECONDS: Final = 60.0

#: Returns the content of a key set. Raises an exception if there is none.
Fetch = Callable[[], Awaitable[bytes]]


class KeySource(Protocol):
    """The keys of an identity provider."""

    @property
    def keys(self) -> "KeySet | None":
        """The last good set of keys, or None if there never was one."""
        ...

    def start(self) -> None:
        """Begins to keep the keys up to date, on the running event loop."""
        ...

    def refreshed(self) -> Ticket[None] | None:
        """Returns a ticket for the moment when the keys are as new as can be, or None if they already are."""
        ...

    def reload(self) -> None:
        """Reads the keys again because the operator asks for it.

        Raises:
            ValueError: the new keys are broken, so the old ones stay.
        """
        ...

    async def aclose(self) -> None:
        """Ends all work."""
        ...


class KeyFile:
    """A key set in a file, which is read at the start and at each reload.

    Args:
        path: the file.
        on_change: is called when the keys have changed.

    Raises:
        ValueError: the file cannot be read or is broken.
    """

    def __init__(self, path: Path, on_change: Callable[[], None]) -> None:
        self._path = path
        self._on_change = on_change
        self.keys = self._read()

    def start(self) -> None:
        """Does nothing, because a file changes only when the operator says so."""

    def refreshed(self) -> Ticket[None] | None:
        """Returns None, for the same reason."""
        return None

    def reload(self) -> None:
        """Reads the file again.

        Raises:
            ValueError: the file cannot be read or is broken, so the old keys stay.
        """
        keys = self._read()
        if keys != self.keys:
            self.keys = keys
            self._on_change()

    async def aclose(self) -> None:
        """Does nothing."""

    def _read(self) -> "KeySet":
        from .key_set import parse_key_set

        try:
            return parse_key_set(self._path.read_bytes())
        except OSError as error:
            raise ValueError(f"{self._path}: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None


class KeyUrl:
    """A key set at a URL. Belongs to one event loop after `start`. Call `aclose` at the end.

    Args:
        url: the URL, which `check_key_url` accepts.
        on_change: is called when the keys have changed.
        fetch: fetches the key set. By default, over the network.
    """

    def __init__(self, url: str, on_change: Callable[[], None], fetch: Fetch | None = None) -> None:
        self.keys: KeySet | None = None
        self._name = check_key_url(url)
        self._on_change = on_change
        self._fetch = fetch or _fetch_from(url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[Ticket[None], None] = {}
        # Both are times of the event loop's clock.
        self._begun_at: float | None = None
        self._logged_at: float | None = None

    def start(self) -> None:
        """Fetches the keys now, and then every `REFRESH_SECONDS`."""
        self._loop = asyncio.get_running_loop()
        self._begin()

    def refreshed(self) -> Ticket[None] | None:
        """Returns a ticket for the end of the fetch that is running or is due, or None if the last one began a moment ago.

        The ticket resolves even if the fetch fails. Then the keys are still the old ones.
        """
        if self._loop is None:
            return None
        if self._task is None:
            least = UNKNOWN_KEY_SECONDS if self.keys is not None else RETRY_SECONDS
            if self._begun_at is not None and self._loop.time() - self._begun_at < least:
                return None
            self._begin()
        ticket: Ticket[None] = Ticket()
        self._waiting[ticket] = None
        ticket.on_cancel(lambda: self._waiting.pop(ticket, None))
        return ticket

    def reload(self) -> None:
        """Fetches the keys now, unless a fetch is running. The outcome comes later, so nothing is raised."""
        if self._loop is not None and self._task is None:
            self._begin()

    async def aclose(self) -> None:
        """Ends the fetch that is running, and begins no other. Requests that wait for it go on with the old keys."""
        self._loop = None
        self._cancel_timer()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._end()  # a task that is cancelled before it starts ends without it

    def _begin(self) -> None:
        """Begins a fetch."""
        assert self._loop is not None
        self._cancel_timer()
        self._begun_at = self._loop.time()
        self._task = self._loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        """Fetches the keys once, wakes those who wait for it, and sets the timer for the next time."""
        wait = RETRY_SECONDS
        try:
            if await self._fetch_keys():
                wait = REFRESH_SECONDS
        finally:
            if self._loop is not None:
                self._timer = self._loop.call_later(wait, self._begin)
            self._end()

    def _end(self) -> None:
        """Wakes those who wait for the fetch."""
        self._task = None
        waiting, self._waiting = self._waiting, {}
        for ticket in waiting:
            ticket.resolve(None)

    async def _fetch_keys(self) -> bool:
        """Fetches the keys. If that fails, logs it and returns False."""
        from .fetch import FetchFailed
        from .key_set import parse_key_set

        try:
            keys = parse_key_set(await self._fetch())
        except (FetchFailed, ValueError) as error:  # both are in words of the server
            self._log_failure(str(error))
            return False
        self._logged_at = None
        if keys != self.keys:
            self.keys = keys
            self._on_change()
        return True

    def _log_failure(self, why: str) -> None:
        """Logs the first failure after a success, and then one a minute."""
        now = asyncio.get_running_loop().time()
        if self._logged_at is None or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            kept = (
                "no token of this provider is accepted"
                if self.keys is None
                else "the old keys stay in use"
            )
            _log.warning("the keys at %s could not be fetched, so %s: %s", self._name, kept, why)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def check_key_url(url: str) -> str:
    """Returns a URL without its query, for logs, after checking that keys may be fetched from it.

    Raises:
        ValueError: the URL is malformed, has a password, or is neither https nor on this machine. The message does not quote it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("the URL of the keys must be https://, a host and a path")
    if "@" in parts.netloc or "#" in url:
        raise ValueError("the URL of the keys must have neither a password nor a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("the URL of the keys must be https://, or http:// on this machine")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{parts.path}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _fetch_from(url: str) -> Fetch:
    """Returns a function that fetches a URL over the network."""
    from .fetch import fetch

    context = ssl.create_default_context() if url.lower().startswith("https:") else None

    async def fetch_keys() -> bytes:
        return await fetch(url, context)

    return fetch_keys
