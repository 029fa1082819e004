"""Sends generated requests for every operation of the OpenAPI document, and checks that each response is as documented.

    python -m tests.openapi.hunt SEED EXAMPLES

schemathesis generates the requests, valid and invalid ones, from the document that the server publishes. Half of them are then steered to
things that exist: streams, offsets, subscriptions, and the tokens of claims. A server error, an undocumented status, or a response that does
not match its schema ends the hunt, with a curl command that repeats the request.
"""

import contextlib
import sys
from collections.abc import Iterator
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.process import serve

ROOT: Final = "/v1/stream"
CONTROL: Final = f"{ROOT}/__ds"
DOCUMENT: Final = f"{CONTROL}/openapi.json"
#: Streams that exist at the beginning of a round, with their content types.
STREAMS: Final = {
    "json": "application/json",
    "text": "text/plain",
    "bytes": "application/octet-stream",
    "a/b": "text/plain",
    "jobs/1": "application/json",
    "wake": "application/json",
}
CHECKS: Final = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
Case = schemathesis.Case[Any]
_WAIT: Final = 20  # seconds that a response may take


class Target:
    """A running server, and what the hunt has learned about it.

    Args:
        url: the URL of the server.
        chance: decides which requests are steered, and where to.
    """

    def __init__(self, url: str, chance: Random) -> None:
        self.url = url
        self.session = requests.Session()
        self.streams: dict[str, str] = {}  # the content types of the round's streams by path
        self._chance = chance
        self._round = 0
        self._subscription = ""
        self._offsets: list[str] = []
        self._etags: list[str] = []
        self._is_first = True
        self._claim: dict[str, Any] = {}  # the response to the round's last claim
        self.statuses: dict[str, set[int]] = {}

    def begin_round(self) -> None:
        """Creates streams with data and a subscription with news, none of which an earlier round has touched."""
        self._round += 1
        self._is_first = True
        self.streams = {f"{self._round}/{name}": kind for name, kind in STREAMS.items()}
        self._subscription = f"pool-{self._round}"
        self._claim, self._offsets, self._etags = {}, ["-1", "now"], []
        for path, kind in self.streams.items():
            url = f"{self.url}{ROOT}/{path}"
            assert self.session.put(url, headers={"content-type": kind}).ok
            body = b'[{"n":1},{"n":2}]' if kind == "application/json" else b"hello"
            assert self.session.post(url, headers={"content-type": kind}, data=body).ok
        assert self.session.put(
            f"{self.url}{CONTROL}/subscriptions/{self._subscription}", json=self._config("jobs/*")
        ).ok
        self._add_job()

    def _config(self, pattern: str) -> dict[str, str]:
        """Returns the configuration of a subscription to streams of this round."""
        wake = f"{self._round}/wake"
        return {"type": "pull-wake", "pattern": f"{self._round}/{pattern}", "wake_stream": wake}

    def _add_job(self) -> None:
        """Appends to a stream that the subscription follows, so that there is something to claim."""
        url = f"{self.url}{ROOT}/{self._round}/jobs/1"
        assert self.session.post(url, json=[3]).ok

    def steer(self, case: Case) -> None:
        """Replaces some of the generated values by values that exist or belong together. The first request of a round is valid."""
        if self._is_first:
            self._is_first = False
            self._make_valid(case)
            return
        for name, values in (("path", [*self.streams, "new"]), ("id", [self._subscription, "s"])):
            if name in case.path_parameters and self._happens(0.5):
                case.path_parameters[name] = self._chance.choice(values)
        for place in (case.query, case.headers):
            for name in ("offset", "Stream-Fork-Offset", "Stream-Expected-Offset"):
                if name in place and self._happens(0.5):
                    place[name] = self._chance.choice(self._offsets)
        if case.path.endswith(("/ack", "/callback", "/release")):
            self._use_claim(case)
        elif case.method == "PUT" and "id" in case.path_parameters and self._happens(0.5):
            case.body = cast(Any, self._config(self._chance.choice(["jobs/*", "**", "a/*"])))
        elif case.method in ("GET", "HEAD") and "path" in case.path_parameters:
            self._steer_read(case)
        elif "path" in case.path_parameters and "id" not in case.path_parameters:
            self._steer_write(case)

    def _make_valid(self, case: Case) -> None:
        """Makes a generated request one that succeeds."""
        case.headers.clear()
        case.query.clear()
        if "id" in case.path_parameters:
            case.path_parameters["id"] = self._subscription
        if "path" in case.path_parameters:
            case.path_parameters["path"] = f"{self._round}/text"
        if case.path.endswith(("/ack", "/callback", "/release")):
            self._claim_wake()
            case.headers["Authorization"] = f"Bearer {self._claim['token']}"
            case.body = {name: self._claim[name] for name in ("wake_id", "generation")}
        elif case.path.endswith("/claim"):
            case.body = {"worker": "w"}
        elif case.path.endswith("/streams") and case.method == "POST":
            case.body = {"streams": [f"{self._round}/text"]}
        elif case.method == "PUT":
            name = "id" if "id" in case.path_parameters else "path"
            case.path_parameters[name] = f"new-{self._round}"
            case.body = cast(Any, self._config("**")) if name == "id" else "x"
        elif case.method == "POST":
            case.media_type, case.body = "text/plain", "x"

    def _steer_read(self, case: Case) -> None:
        if "live" in case.query and self._happens(0.5):
            case.query["live"] = self._chance.choice(["long-poll", "sse"])
            case.query["offset"] = self._chance.choice(self._offsets)
        if self._etags and self._happens(0.3):
            case.headers["If-None-Match"] = self._chance.choice(self._etags)

    def _steer_write(self, case: Case) -> None:
        if case.method == "POST" and self._happens(0.4):
            case.headers["Producer-Id"] = "p"
            case.headers["Producer-Epoch"] = str(self._chance.randrange(3))
            case.headers["Producer-Seq"] = str(self._chance.randrange(4))
        if case.method == "PUT" and self._happens(0.5):
            for name in ("Stream-TTL", "Stream-Expires-At", "Stream-Fork-Sub-Offset"):
                case.headers.pop(name, None)
        if case.method == "PUT" and self._happens(0.3):
            case.path_parameters["path"] = f"fork{self._chance.randrange(9)}"
            case.headers["Stream-Forked-From"] = f"{ROOT}/{self._chance.choice([*self.streams])}"
        if self._happens(0.5):
            for name in ("If-Match", "If-None-Match"):
                case.headers.pop(name, None)

    def _use_claim(self, case: Case) -> None:
        """Gives some requests of workers the token and the wake of a claim."""
        if self._happens(0.2):
            self._claim_wake()
        if not self._claim:
            return
        if self._happens(0.7):
            case.path_parameters["id"] = self._subscription
            case.headers["Authorization"] = f"Bearer {self._claim['token']}"
        if self._happens(0.7) and isinstance(case.body, dict):
            case.body["wake_id"] = self._claim["wake_id"]
            case.body["generation"] = self._claim["generation"]
            if self._happens(0.5):
                case.body["acks"] = [
                    {"stream": stream["path"], "offset": stream["tail_offset"]}
                    for stream in self._claim["streams"]
                ]

    def _claim_wake(self) -> None:
        """Claims the wake of the round's subscription, if nobody has it."""
        url = f"{self.url}{CONTROL}/subscriptions/{self._subscription}/claim"
        claimed = self.session.post(url, json={"worker": "w"})
        if claimed.ok:
            self._claim = claimed.json()
        else:
            self._add_job()

    def _happens(self, probability: float) -> bool:
        return self._chance.random() < probability

    def send(self, case: Case) -> None:
        """Sends a request, checks the response, and learns from it.

        Raises:
            FailureGroup: the response is not as documented.
        """
        response = case.call_and_validate(
            self.url, session=self.session, checks=CHECKS, timeout=_WAIT, allow_redirects=False
        )
        self.statuses.setdefault(case.operation.label, set()).add(response.status_code)
        if offset := response.headers.get("stream-next-offset"):
            self._offsets = ["-1", "now", *self._offsets[-30:], offset[0]]
        if etag := response.headers.get("etag"):
            self._etags = [*self._etags[-10:], etag[0]]


@contextlib.contextmanager
def serving(seed: int, *flags: str) -> Iterator[Target]:
    """Runs a server whose live reads end soon, and yields it as a target.

    Args:
        seed: decides which requests are steered.
        flags: flags of `serve`: the lane and the store.
    """
    short = ("--long-poll-timeout", "0.02", "--sse-max-age", "0.05")
    with serve(*short, *flags) as server:
        target = Target(server.url, Random(seed))
        yield target
        target.session.close()


def hunt(target: Target, seed: int, examples: int) -> dict[str, set[int]]:
    """Sends `examples` valid and as many invalid requests for each operation. Returns the statuses of the responses by operation.

    Raises:
        FailureGroup: a response is not as documented.
    """
    document = target.session.get(f"{target.url}{DOCUMENT}").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.validate()
    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        for mode in schemathesis.GenerationMode:
            target.begin_round()

            @hypothesis.seed(seed)
            @settings
            @hypothesis.given(case=operation.as_strategy(mode))
            def attack(case: Case) -> None:
                target.steer(case)
                target.send(case)

            with contextlib.suppress(Unsatisfiable):  # some operations have no invalid requests
                attack()
    return target.statuses


def main(seed: int, examples: int) -> None:
    """Hunts on both lanes and with both stores, and prints the statuses of each operation."""
    for lane in ("native", "asgi"):
        for is_durable in (False, True):
            with TemporaryDirectory() as directory:
                store = ("--data-dir", f"{directory}/data") if is_durable else ("--memory",)
                with serving(seed, "--http", lane, *store) as target:
                    statuses = hunt(target, seed, examples)
            print(f"--http {lane} {store[0]}")
            for label, found in statuses.items():
                print(f"  {label}: {', '.join(map(str, sorted(found)))}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
