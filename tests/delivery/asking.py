"""What workers and receivers ask of the server; every request is noted in the history."""

import json
import random
import threading
import time
from typing import Any

from tests.delivery.history import Acks, Asked, History, Replied, Told, Wrong
from tests.delivery.server import Server
from tests.delivery.wire import Reply, request
from tests.delivery.world import Grant, World


class Asker:
    """Sends the requests of workers.

    Attributes:
        calm: set when the faults are over and every worker must do its work.
        over: set when the trial ends.
    """

    def __init__(self, server: Server, world: World, history: History) -> None:
        self.server = server
        self.world = world
        self.history = history
        self.calm = threading.Event()
        self.over = threading.Event()

    def claim(self, sub: str, worker: str) -> Grant | None:
        """Claims the wake of a subscription; returns None if another worker has it or there is none."""
        asked = self.history.add(Asked, number=self.history.number(), sub=sub, what="claim")
        reply = self._send(sub, "claim", {"worker": worker})
        wake = reply.document if reply.status == 200 else {}
        told = told_of(wake)
        self.history.add(
            Replied,
            number=asked.number,
            status=reply.status,
            code=reply.code,
            wake_id=str(wake.get("wake_id", "")),
            generation=int(wake.get("generation", 0)),
            told=told,
        )
        self._refuse_failure(sub, "claim", reply, ())
        if not wake:
            return None
        return self.keep(sub, "pull-wake", wake, str(wake["token"]))

    def keep(self, sub: str, kind: str, wake: dict[str, Any], token: str) -> Grant:
        """Remembers a token."""
        grant = Grant(sub, kind, wake["wake_id"], wake["generation"], token, told_of(wake))
        with self.world.lock:
            self.world.grants.append(grant)
        return grant

    def acknowledge(self, grant: Grant, acks: Acks, done: bool) -> Reply:
        """Acknowledges offsets."""
        what = "callback" if grant.kind == "webhook" else "ack"
        body = {"acks": [{"stream": path, "offset": offset} for path, offset in acks], "done": done}
        return self._ask(grant, what, body, acks, done)

    def release(self, grant: Grant) -> Reply:
        """Gives a claim back."""
        return self._ask(grant, "release", {}, (), False)

    def whole(self, grant: Grant) -> Acks:
        """Returns acknowledgements of everything that a wake tells of."""
        return tuple((path, tail) for path, acked, tail in grant.told if acked < tail)

    def part(self, grant: Grant, chance: random.Random) -> Acks:
        """Returns acknowledgements that leave something, if there is more than one append."""
        news = [(path, acked, tail) for path, acked, tail in grant.told if acked < tail]
        chosen = chance.sample(news, chance.randint(1, len(news))) if news else []
        return tuple(
            (path, chance.choice(self.world.between(*told))) for told in chosen for path in told[:1]
        )

    def sleep(self, seconds: float) -> None:
        """Sleeps, but not beyond the end of the trial."""
        self.over.wait(seconds)

    def read(self, grant: Grant) -> None:
        """Reads each stream from its acknowledged offset, as a worker does.

        A restore may take that offset from the stream; then the server is right to refuse it.
        """
        for path, acked, tail in grant.told:
            if acked >= tail or self.world.is_damaged(path):
                continue
            reply = request(self.server.url, "GET", f"{path}?offset={acked}")
            is_read = reply.status in (0, 404, 410, 503) or reply.offset > acked
            if is_read or self.world.is_damaged(path):
                continue
            if not self.world.may_lack(path, acked, tail):
                self.history.add(
                    Wrong,
                    what=f"{grant.sub}: a read of {path} at {acked} is answered with {reply.status}",
                )

    def _ask(self, grant: Grant, what: str, body: dict[str, Any], acks: Acks, done: bool) -> Reply:
        asked = self.history.add(
            Asked,
            number=self.history.number(),
            sub=grant.sub,
            what=what,
            wake_id=grant.wake_id,
            generation=grant.generation,
            acks=acks,
            done=done,
        )
        body = {"wake_id": grant.wake_id, "generation": grant.generation, **body}
        reply = self._send(grant.sub, what, body, grant.token)
        self.history.add(Replied, number=asked.number, status=reply.status, code=reply.code)
        self._refuse_failure(grant.sub, what, reply, acks)
        return reply

    def _send(self, sub: str, what: str, body: dict[str, Any], token: str | None = None) -> Reply:
        path = f"__ds/subscriptions/{sub}/{what}"
        return request(self.server.url, "POST", path, json.dumps(body).encode(), token=token)

    def _refuse_failure(self, sub: str, what: str, reply: Reply, acks: Acks) -> None:
        """Notes an answer that says the server itself has failed; only damaged streams may cause one."""
        if reply.status < 500 or reply.status == 503:
            return
        if not any(self.world.is_damaged(path) for path, _ in acks):
            self.history.add(
                Wrong, what=f"{sub}: {what} is answered with {reply.status} {reply.code}"
            )


def told_of(wake: dict[str, Any]) -> Told:
    """Returns what a wake's document tells of its streams."""
    return tuple(
        (each["path"], each["acked_offset"], each["tail_offset"])
        for each in wake.get("streams", ())
    )


def until(condition: Any, seconds: float, step: float = 0.1) -> bool:
    """Waits until a condition holds; returns whether it does in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True
