"""A client whose streams have a time to live of a few seconds. It deletes none of them, so only expiry does."""

import random
import time
from collections import deque

from tests.crash.clients import JSON, ask
from tests.soak.remote import Connection, Remote
from tests.soak.writers import ROOT

LONGEST = 5  # maximum seconds of a time to live
#: Seconds after which a stream must be gone beyond its time to live. A restart extends each time to live by a tenth.
MARGIN = 5.0
MOST = 500  # streams that the client remembers


class Expiring:
    """Creates streams that expire, and asks for some of them after their time.

    Args:
        remote: the server.
        name: the name of the client, which is part of the paths.
        seed: determines all choices.
    """

    def __init__(self, remote: Remote, name: str, seed: str) -> None:
        self._remote = remote
        self._name = name
        self._chance = random.Random(f"{seed} {name}")
        self._number = 0
        self._gone: deque[tuple[float, str]] = deque(maxlen=MOST)  # when each stream must be gone

    def run(self) -> None:
        """Creates streams until the clients must stop."""
        self._remote.persist(self._act, self._name)

    def finish(self, connection: Connection) -> None:
        """Waits until all streams must be gone, and asks for each of them."""
        for at, path in self._gone:
            time.sleep(max(0.0, at - time.monotonic()))
            self._expect_gone(connection, path)

    def _act(self, connection: Connection) -> None:
        """Creates a stream, and asks for the oldest if it must be gone."""
        self._number += 1
        path = f"{ROOT}/{self._name}/{self._number}"
        ttl = self._chance.randint(1, LONGEST)
        headers = {**JSON, "Stream-TTL": str(ttl)}
        began = time.monotonic()
        status, body = ask(connection, "PUT", path, b"[1,2,3]", headers)
        assert status == 201, body
        status, body = ask(connection, "POST", path, b"4", JSON)
        # On a busy machine, the stream may expire before the append comes.
        assert status in (200, 204) or time.monotonic() > began + ttl, body
        self._remote.count("streams that expire")
        self._gone.append((time.monotonic() + ttl * 1.1 + MARGIN, path))
        at, oldest = self._gone[0]
        if at < time.monotonic():
            self._expect_gone(connection, oldest)
            self._gone.popleft()
        self._remote.sleep(self._chance.uniform(0.02, 0.1))

    def _expect_gone(self, connection: Connection, path: str) -> None:
        status, body = ask(connection, "GET", path)
        assert status in (404, 410), f"{path} has not expired: {status} {body!r}"
