"""The ordinary clients of a trial, which change streams and subscriptions."""

import json
import random
import time

from tests.delivery.history import (
    Failure,
    Inspected,
    Linked,
    StreamGone,
    Subscribed,
    Tail,
    Unsubscribed,
)
from tests.delivery.requester import Requester
from tests.delivery.wire import Reply, request
from tests.delivery.world import Stream, Sub

GOOD = (200, 201, 204)


class Clients:
    """Sends one request after another, and updates the world from the responses.

    Args:
        requester: holds the server, the world and the history.
        hook: the URL of the webhook receiver.
    """

    def __init__(self, requester: Requester, hook: str) -> None:
        self._requester = requester
        self._world = requester.world
        self._history = requester.history
        self._hook = hook

    # -- streams ------------------------------------------------------------

    def create(self, path: str, body: bytes = b"", source: str = "") -> None:
        """Creates a stream. `body` is its first append, and `source` is the stream to fork."""
        headers = {"stream-forked-from": f"/v1/stream/{source}"} if source else {}
        media = "text/plain"
        reply = self._send("PUT", path, body or None, media=media, headers=headers)
        if not self._is_good(reply, f"create of {path}"):
            return
        start = reply.offset if source else f"{reply.offset.partition('_')[0]}_{0:016d}"
        with self._world.lock:
            self._world.streams[path] = Stream(path, [reply.offset], is_fork=bool(source))
            if source:
                self._world.streams[source].is_fork = True
        for sub in self._world.subs.values():
            if sub.matches(path):
                self._history.add(Linked, sub=sub.id, path=path, cursor=start)
        self._history.add(Tail, path=path, offset=reply.offset)

    def append(self, path: str, chance: random.Random) -> bool:
        """Appends a few bytes, and returns whether the server has answered."""
        body = bytes(chance.choices(b"abcdefgh", k=chance.randint(1, 40)))
        reply = self._send("POST", path, body, media="text/plain")
        if self._world.is_damaged(path) and reply.status >= 500:
            return True
        if self._is_good(reply, f"append to {path}"):
            self._set_tail(path, reply.offset)
        return reply.status != 0

    def delete(self, path: str) -> None:
        """Deletes a stream."""
        if self._is_good(self._send("DELETE", path), f"delete of {path}"):
            self._remove(path)

    def refresh(self) -> None:
        """Requests the tails of all streams from the server, after it has started."""
        for path in list(self._world.streams):
            reply = self._send("HEAD", path)
            if reply.status == 200:
                self._set_tail(path, reply.offset)
            elif reply.status == 404:
                self._remove(path)
            elif reply.status and not self._world.is_damaged(path):
                self._record_failure(f"HEAD of {path} is answered with {reply.status}")

    def _set_tail(self, path: str, offset: str) -> None:
        with self._world.lock:
            tails = self._world.streams[path].tails
            if offset not in tails:
                tails.append(offset)
        self._history.add(Tail, path=path, offset=offset)

    def _remove(self, path: str) -> None:
        with self._world.lock:
            del self._world.streams[path]
        self._history.add(StreamGone, path=path)

    # -- subscriptions ------------------------------------------------------

    def subscribe(self, sub: Sub) -> None:
        """Creates a subscription."""
        wanted: dict[str, object] = {"type": sub.kind, "lease_ttl_ms": round(sub.lease * 1000)}
        if sub.pattern:
            wanted["pattern"] = sub.pattern
        if sub.streams:
            wanted["streams"] = list(sub.streams)
        if sub.kind == "webhook":
            wanted["webhook"] = {"url": f"{self._hook}/{sub.id}"}
        else:
            wanted["wake_stream"] = f"w/{sub.id}"
            self._send("PUT", f"w/{sub.id}")
        reply = self._send("PUT", self._path(sub.id), json.dumps(wanted).encode())
        if not self._is_good(reply, f"create of subscription {sub.id}"):
            return
        self._history.add(Subscribed, sub=sub.id, kind=sub.kind, lease=sub.lease)
        for stream in list(self._world.streams.values()):
            if sub.matches(stream.path):
                self._history.add(Linked, sub=sub.id, path=stream.path, cursor=stream.tails[-1])
        with self._world.lock:
            self._world.subs[sub.id] = sub

    def resubscribe(self, sub: Sub) -> None:
        """Deletes a subscription, and creates it again under the same id."""
        reply = self._send("DELETE", self._path(sub.id))
        if not self._is_good(reply, f"delete of subscription {sub.id}"):
            return
        self._history.add(Unsubscribed, sub=sub.id)
        with self._world.lock:
            del self._world.subs[sub.id]
        time.sleep(0.1)  # so that deliveries under way arrive first
        self.subscribe(sub)

    def inspect(self, sub: Sub) -> dict[str, str] | None:
        """Returns the cursors of a subscription from the server, or None if the server does not answer."""
        since = time.monotonic()
        reply = self._send("GET", self._path(sub.id))
        if not self._is_good(reply, f"GET of subscription {sub.id}"):
            return None
        streams = reply.document["streams"]
        cursors = {each["path"]: each["acked_offset"] for each in streams}
        self._history.add(
            Inspected,
            sub=sub.id,
            since=since,
            status=reply.document["status"],
            cursors=tuple(cursors.items()),
        )
        return cursors

    def unsettled(self) -> list[str]:
        """Returns a sentence for each stream that a subscription has not acknowledged up to the tail."""
        left = []
        for sub in list(self._world.subs.values()):
            cursors = self.inspect(sub) or {}
            for stream in list(self._world.streams.values()):
                if not sub.matches(stream.path) or stream.is_damaged:
                    continue
                acked = cursors.get(stream.path)
                if acked != stream.tails[-1]:
                    left.append(f"{sub.id}: {stream.path} is at {acked} of {stream.tails[-1]}")
        return left

    def check_events(self, sub: Sub) -> None:
        """Reads a wake stream, and checks that the generations of its events never decrease."""
        reply = request(self._requester.server.url, "GET", f"w/{sub.id}?offset=-1")
        if reply.status != 200:
            self._record_failure(
                f"a read of the wake stream of {sub.id} is answered with {reply.status}"
            )
            return
        generations = [event["generation"] for event in json.loads(reply.body)]
        if generations != sorted(generations):
            self._record_failure(f"the wake stream of {sub.id} has generations {generations}")

    # -- inside -------------------------------------------------------------

    def _path(self, id_: str) -> str:
        return f"__ds/subscriptions/{id_}"

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        media: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        url = self._requester.server.url
        return request(url, method, path, body, media=media, headers=headers)

    def _is_good(self, reply: Reply, what: str) -> bool:
        if reply.status not in (0, *GOOD):
            self._record_failure(f"{what} is answered with {reply.status} {reply.code}")
        return reply.status in GOOD

    def _record_failure(self, what: str) -> None:
        self._history.add(Failure, what=what)
