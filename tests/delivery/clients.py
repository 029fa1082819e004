"""The ordinary clients of a trial: create, append to, fork and delete streams, and make, look at and delete subscriptions."""

import json
import random
import time

from tests.delivery.asking import Asker
from tests.delivery.history import Gone, Linked, Seen, Subscribed, Tail, Unsubscribed, Wrong
from tests.delivery.wire import Reply, request
from tests.delivery.world import Stream, Sub

GOOD = (200, 201, 204)


class Clients:
    """Sends one request after the other, and keeps the world level with the answers.

    Args:
        asker: has the server, the world and the history.
        hook: the receiver's address.
    """

    def __init__(self, asker: Asker, hook: str) -> None:
        self._asker = asker
        self._world = asker.world
        self._history = asker.history
        self._hook = hook

    # -- streams ------------------------------------------------------------

    def create(self, path: str, body: bytes = b"", source: str = "") -> None:
        """Creates a stream, perhaps with a first append or as a fork."""
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
        """Appends a few bytes; returns whether the server has answered."""
        body = bytes(chance.choices(b"abcdefgh", k=chance.randint(1, 40)))
        reply = self._send("POST", path, body, media="text/plain")
        if self._world.is_damaged(path) and reply.status >= 500:
            return True
        if self._is_good(reply, f"append to {path}"):
            self._grew(path, reply.offset)
        return reply.status != 0

    def delete(self, path: str) -> None:
        """Deletes a stream."""
        if self._is_good(self._send("DELETE", path), f"delete of {path}"):
            self._lost(path)

    def refresh(self) -> None:
        """Reads the tails of all streams, after a start of the server."""
        for path in list(self._world.streams):
            reply = self._send("HEAD", path)
            if reply.status == 200:
                self._grew(path, reply.offset)
            elif reply.status == 404:
                self._lost(path)
            elif reply.status and not self._world.is_damaged(path):
                self._wrong(f"HEAD of {path} is answered with {reply.status}")

    def _grew(self, path: str, offset: str) -> None:
        with self._world.lock:
            tails = self._world.streams[path].tails
            if offset not in tails:
                tails.append(offset)
        self._history.add(Tail, path=path, offset=offset)

    def _lost(self, path: str) -> None:
        with self._world.lock:
            del self._world.streams[path]
        self._history.add(Gone, path=path)

    # -- subscriptions ------------------------------------------------------

    def subscribe(self, sub: Sub) -> None:
        """Makes a subscription."""
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
        """Deletes a subscription and makes it again under its old id."""
        reply = self._send("DELETE", self._path(sub.id))
        if not self._is_good(reply, f"delete of subscription {sub.id}"):
            return
        self._history.add(Unsubscribed, sub=sub.id)
        with self._world.lock:
            del self._world.subs[sub.id]
        time.sleep(0.1)  # deliveries that are under way come in
        self.subscribe(sub)

    def look(self, sub: Sub) -> dict[str, str] | None:
        """Returns the cursors that the server shows, or None if it does not answer."""
        since = time.monotonic()
        reply = self._send("GET", self._path(sub.id))
        if not self._is_good(reply, f"GET of subscription {sub.id}"):
            return None
        streams = reply.document["streams"]
        cursors = {each["path"]: each["acked_offset"] for each in streams}
        self._history.add(
            Seen,
            sub=sub.id,
            since=since,
            status=reply.document["status"],
            cursors=tuple(cursors.items()),
        )
        return cursors

    def unsettled(self) -> list[str]:
        """Returns what is not yet acknowledged up to its tail."""
        left = []
        for sub in list(self._world.subs.values()):
            cursors = self.look(sub) or {}
            for stream in list(self._world.streams.values()):
                if not sub.matches(stream.path) or stream.is_damaged:
                    continue
                acked = cursors.get(stream.path)
                if acked != stream.tails[-1]:
                    left.append(f"{sub.id}: {stream.path} is at {acked} of {stream.tails[-1]}")
        return left

    def check_events(self, sub: Sub) -> None:
        """Reads a wake stream, whose generations only grow."""
        reply = request(self._asker.server.url, "GET", f"w/{sub.id}?offset=-1")
        if reply.status != 200:
            self._wrong(f"a read of the wake stream of {sub.id} is answered with {reply.status}")
            return
        generations = [event["generation"] for event in json.loads(reply.body)]
        if generations != sorted(generations):
            self._wrong(f"the wake stream of {sub.id} has generations {generations}")

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
        url = self._asker.server.url
        return request(url, method, path, body, media=media, headers=headers)

    def _is_good(self, reply: Reply, what: str) -> bool:
        if reply.status not in (0, *GOOD):
            self._wrong(f"{what} is answered with {reply.status} {reply.code}")
        return reply.status in GOOD

    def _wrong(self, what: str) -> None:
        self._history.add(Wrong, what=what)
