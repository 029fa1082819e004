"""Answers the route of `streams`: one page of the streams of the server, in the order of their paths.

    GET {root}/__ds/streams?prefix=/v1/stream/chat/&after=/v1/stream/chat/7&limit=100

A page has at most `MAX_STREAMS_LISTED` streams, and the server collects it in short steps that share the event loop with other work. It
collects one page at a time, because each may hold the paths of all streams for a moment.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from ...errors import BadRequest, StreamError
from ...protocol.lifetime import timestamp
from ...protocol.limits import MAX_PATH_BYTES
from ...protocol.paths import check_path
from ...protocol.state import StreamState
from ...protocol.units import SECOND
from ...storage.ticket import Ticket
from ...streams.engine import Engine
from ...subscriptions.loading import in_slices
from ..queries import parameters
from ..request import Request
from .requests import Actions, Answer, document
from .routes import STREAMS

#: Maximum streams in one page. Each takes about 30 us of the event loop if the server has to load it.
MAX_STREAMS_LISTED: Final = 1000
#: Streams in one page if the request has no `limit`.
DEFAULT_STREAMS_LISTED: Final = 100
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


class ListedStream(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stream in a listing. Of a damaged stream, the server may know no more than the path.

    Attributes:
        path: the decoded path, below the mount.
        damaged: whether data of the stream on disk is damaged.
        content_type: the content type.
        tail: the offset after the last byte.
        closed: whether the stream is closed.
        public: whether everybody may read the stream.
        readers: the number of attached live readers.
        bytes: bytes that the stream itself holds, without those that a fork inherits.
        created_at: when the stream was created, in UTC.
        age_seconds: seconds since then, also if the clock was set meanwhile.
        ttl_seconds: seconds without a read or write after which the stream expires.
        expires_at: when the stream expires, as the client wrote it.
        forked_from: the path of the source of a fork.
    """

    path: str
    damaged: bool = False
    content_type: str | None = None
    tail: str | None = None
    closed: bool | None = None
    public: bool | None = None
    readers: int | None = None
    bytes: int | None = None
    created_at: str | None = None
    age_seconds: int | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None
    forked_from: str | None = None


class Listing(msgspec.Struct, frozen=True):
    """One page of a listing.

    Attributes:
        streams: the streams, in the order of their paths.
        next: the value of `after` for the next page, or null after the last page.
    """

    streams: list[ListedStream]
    next: str | None


class ListingQuery(msgspec.Struct, frozen=True):
    """The query of a listing, checked.

    Attributes:
        prefix: what the paths begin with.
        after: the path after which the page begins.
        limit: maximum number of streams.
    """

    prefix: str
    after: str
    limit: int


def parse_query(query: bytes) -> ListingQuery:
    """Returns the checked query of a listing. Unknown parameters are ignored.

    Raises:
        BadRequest: INVALID_QUERY, INVALID_PATH, or INVALID_LIMIT.
    """
    given = parameters(query)
    prefix, after, limit = (_single(given, name) for name in ("prefix", "after", "limit"))
    if prefix and not prefix.startswith("/"):
        raise BadRequest("prefix must begin with a slash, as in /v1/stream/chat", "INVALID_PATH")
    if len(prefix.encode()) > MAX_PATH_BYTES:
        raise BadRequest(f"prefix is longer than {MAX_PATH_BYTES} bytes", "INVALID_PATH")
    if after:
        check_path(after)
    if limit and (not _LIMIT.fullmatch(limit) or int(limit) > MAX_STREAMS_LISTED):
        raise BadRequest(
            f"limit must be a whole number from 1 to {MAX_STREAMS_LISTED}", "INVALID_LIMIT"
        )
    return ListingQuery(prefix, after, int(limit or DEFAULT_STREAMS_LISTED))


def _single(given: Mapping[str, list[str]], name: str) -> str:
    """Returns the value of a query parameter, or an empty string if it is missing.

    Raises:
        BadRequest: INVALID_QUERY, the parameter is given more than once.
    """
    values = given.get(name, [""])
    if len(values) > 1:
        raise BadRequest(f"{name} is given more than once", "INVALID_QUERY")
    return values[0]


class ListingRoute:
    """Answers requests for a page of the streams.

    Args:
        engine: Runs the streams.

    Attributes:
        actions: The function for each route and method.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[Ticket[None]] = deque()  # one for each page to be collected
        self._is_collecting = False
        self.actions: Actions = {(STREAMS, "GET"): self._list}

    def _list(self, request: Request) -> Answer:
        asked = parse_query(request.query)
        turn: Ticket[None] = Ticket()
        has_turn = False

        def collect(_: None) -> Answer:
            nonlocal has_turn
            has_turn = True
            return self._collect(asked)

        def end(_: Answer) -> None:
            if has_turn:  # otherwise the client left before its turn
                self._engine.turns.add(self._begin_next)

        page = turn.then(collect)
        page.add_callback(end)
        self._waiting.append(turn)
        if not self._is_collecting:
            self._begin_next()
        return page

    def _begin_next(self) -> None:
        """Begins the next page whose client still waits."""
        self._is_collecting = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done:
                turn.resolve(None)
                return
        self._is_collecting = False

    def _collect(self, asked: ListingQuery) -> Answer:
        """Returns a ticket for one page."""
        streams: list[ListedStream] = []
        seen: list[str] = []

        def add(path: str | None) -> Ticket[None]:
            """Adds a stream to the page. Does nothing for None, and for the path that only shows that there is another page."""
            if path is None:
                return Ticket.of(None)
            seen.append(path)
            if len(seen) > asked.limit:
                return Ticket.of(None)
            return self._add(path, streams)

        store = self._engine.store
        paths = store.ordered_paths(asked.prefix, asked.after, asked.limit + 1)
        listed: Ticket[None] = in_slices(self._engine.turns, paths, add)

        def show(_: None) -> Answer:
            following = seen[asked.limit - 1] if len(seen) > asked.limit else None
            return document(200, Listing(streams, following))

        return listed.then(show)

    def _add(self, path: str, streams: list[ListedStream]) -> Ticket[None]:
        """Looks up a stream and adds it to the list, unless it has ended meanwhile."""
        added: Ticket[None] = Ticket()

        def show(found: Ticket[StreamState | None]) -> None:
            try:
                state = found.result()
            except StreamError:
                streams.append(ListedStream(path, damaged=True))
            except Exception as error:
                added.fail(error)
                return
            else:
                if state is not None and not self._has_ended(state):
                    streams.append(self._show(state))
            added.resolve(None)

        self._engine.store.find(path).add_callback(show)
        return added

    def _has_ended(self, state: StreamState) -> bool:
        """Returns whether a stream is deleted or expired, so that its path shows no stream to clients."""
        return state.visible_soft_deleted or state.expired(self._engine.clock())

    def _show(self, state: StreamState) -> ListedStream:
        lifetime, origin = state.lifetime, state.origin
        age = max(0, self._engine.clock() - state.created_at)
        return ListedStream(
            state.path,
            damaged=state.damage is not None,
            content_type=state.media.text,
            tail=state.name(state.visible_tail),
            closed=state.visible_closed,
            public=state.public,
            readers=state.readers,
            bytes=state.visible_tail - state.base,
            created_at=timestamp(self._engine.clock.wall() - age),
            age_seconds=age // SECOND,
            ttl_seconds=lifetime.ttl,
            expires_at=lifetime.expires_text,
            forked_from=None if origin is None else origin.source,
        )
