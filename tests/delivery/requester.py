"""Sends the requests of workers and receivers to the server, and records them in the history."""

import json
import random
import threading
import time
from typing import Any, Protocol

from tests.delivery.history import Acks, Failure, History, Requested, Responded, Snapshot
from tests.delivery.wire import Reply, request
from tests.delivery.world import Grant, World


class Reachable(Protocol):
    """The server as workers and receivers see it."""

    @property
    def url(self) -> str:
        """The URL of the stream root, or empty while no server runs."""

    @property
    def is_up(self) -> bool:
        """True while the server runs."""

    @property
    def wall(self) -> float:
        """The Unix time in seconds that the server reads from its clock."""


class Requester:
    """Sends the requests of workers and receivers.

    Attributes:
        calm: an event that is set when the faults are over. From then on, all workers and receivers do their work.
        over: an event that is set when the trial ends.
    """

    def __init__(self, server: Reachable, world: World, history: History) -> None:
        self.server = server
        self.world = world
        self.history = history
        self.calm = threading.Event()
        self.over = threading.Event()

    def claim(self, sub: str, worker: str) -> Grant | None:
        """Claims the wake of a subscription. Returns None if there is no wake or another worker holds it."""
        asked = self.history.add(
            Requested, number=self.history.next_number(), sub=sub, what="claim"
        )
        reply = self._send(sub, "claim", {"worker": worker})
        wake = reply.document if reply.status == 200 else {}
        snapshot = snapshot_of(wake)
        self.history.add(
            Responded,
            number=asked.number,
            status=reply.status,
            code=reply.code,
            wake_id=str(wake.get("wake_id", "")),
            generation=int(wake.get("generation", 0)),
            snapshot=snapshot,
        )
        self._record_failure(sub, "claim", reply, ())
        if not wake:
            return None
        return self.add_grant(sub, "pull-wake", wake, str(wake["token"]))

    def add_grant(self, sub: str, kind: str, wake: dict[str, Any], token: str) -> Grant:
        """Stores a token for later requests, and returns it as a grant."""
        grant = Grant(sub, kind, wake["wake_id"], wake["generation"], token, snapshot_of(wake))
        with self.world.lock:
            self.world.grants.append(grant)
        return grant

    def acknowledge(self, grant: Grant, acks: Acks, done: bool) -> Reply:
        """Acknowledges offsets by callback or ack. `done` ends the wake."""
        what = "callback" if grant.kind == "webhook" else "ack"
        body = {"acks": [{"stream": path, "offset": offset} for path, offset in acks], "done": done}
        return self._request(grant, what, body, acks, done)

    def release(self, grant: Grant) -> Reply:
        """Releases a claim."""
        return self._request(grant, "release", {}, (), False)

    def all_acks(self, grant: Grant) -> Acks:
        """Returns acknowledgements of the tails of all streams that have news."""
        return tuple((path, tail) for path, acked, tail in grant.snapshot if acked < tail)

    def some_acks(self, grant: Grant, chance: random.Random) -> Acks:
        """Returns acknowledgements of some streams, at offsets that may be below their tails."""
        news = [(path, acked, tail) for path, acked, tail in grant.snapshot if acked < tail]
        chosen = chance.sample(news, chance.randint(1, len(news))) if news else []
        return tuple(
            (path, chance.choice(self.world.offsets_between(path, acked, tail)))
            for path, acked, tail in chosen
        )

    def sleep(self, seconds: float) -> None:
        """Sleeps for some seconds, or until the end of the trial."""
        self.over.wait(seconds)

    def read(self, grant: Grant) -> None:
        """Reads each stream from its acknowledged offset, as a worker does.

        After a restore, a stream may lack that offset. Then the server is right to refuse the read.
        """
        for path, acked, tail in grant.snapshot:
            if acked >= tail or self.world.is_damaged(path):
                continue
            reply = request(self.server.url, "GET", f"{path}?offset={acked}")
            is_read = reply.status in (0, 404, 410, 503) or reply.offset > acked
            if is_read or self.world.is_damaged(path):
                continue
            if not self.world.may_lack(path, acked, tail):
                self.history.add(
                    Failure,
                    what=f"{grant.sub}: a read of {path} at {acked} is answered with {reply.status}",
                )

    def _request(
        self, grant: Grant, what: str, body: dict[str, Any], acks: Acks, done: bool
    ) -> Reply:
        asked = self.history.add(
            Requested,
            number=self.history.next_number(),
            sub=grant.sub,
            what=what,
            wake_id=grant.wake_id,
            generation=grant.generation,
            acks=acks,
            done=done,
        )
        body = {"wake_id": grant.wake_id, "generation": grant.generation, **body}
        reply = self._send(grant.sub, what, body, grant.token)
        self.history.add(Responded, number=asked.number, status=reply.status, code=reply.code)
        self._record_failure(grant.sub, what, reply, acks)
        return reply

    def _send(self, sub: str, what: str, body: dict[str, Any], token: str | None = None) -> Reply:
        path = f"__ds/subscriptions/{sub}/{what}"
        return request(self.server.url, "POST", path, json.dumps(body).encode(), token=token)

    def _record_failure(self, sub: str, what: str, reply: Reply, acks: Acks) -> None:
        """Records a response with a status of 500 or more, unless it is 503 or a damaged stream may have caused it."""
        if reply.status < 500 or reply.status == 503:
            return
        if not any(self.world.is_damaged(path) for path, _ in acks):
            self.history.add(
                Failure, what=f"{sub}: {what} is answered with {reply.status} {reply.code}"
            )


def snapshot_of(wake: dict[str, Any]) -> Snapshot:
    """Returns the path, the acknowledged offset and the tail of each stream in the document of a wake."""
    return tuple(
        (each["path"], each["acked_offset"], each["tail_offset"])
        for each in wake.get("streams", ())
    )


def until(condition: Any, seconds: float, step: float = 0.1) -> bool:
    """Waits up to `seconds` for a condition, and returns whether it became true. The server is another process, so it polls."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True
