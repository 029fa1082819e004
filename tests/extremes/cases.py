"""The cases of the sweep: short conversations about one stream or subscription, each with one extreme value in one place."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.extremes.values import HEADER_VALUES, JSON_VALUES, PATHS, TEXTS

ROOT: Final = b"/v1/stream"
CONTROL: Final = ROOT + b"/__ds/"
HEALTH: Final = (b"/healthz", b"/readyz")
TYPE: Final = (b"content-type", b"text/plain")
JSON: Final = (b"content-type", b"application/json")
Header = tuple[bytes, bytes]

WRITE_HEADERS: Final = [
    b"stream-ttl",
    b"stream-expires-at",
    b"stream-seq",
    b"stream-closed",
    b"stream-expected-offset",
    b"stream-public",
    b"producer-id",
    b"producer-epoch",
    b"producer-seq",
    b"content-type",
    b"content-encoding",
    b"if-match",
    b"if-none-match",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-proto",
]
FORK_HEADERS: Final = [b"stream-forked-from", b"stream-fork-offset", b"stream-fork-sub-offset"]
READ_HEADERS: Final = [
    b"if-match",
    b"if-none-match",
    b"last-event-id",
    b"accept-encoding",
    b"origin",
    b"authorization",
    b"range",
    b"stream-cursor",
    b"access-control-request-headers",
    b"x-unknown",
]
PRODUCER: Final = {b"producer-id": b"p", b"producer-epoch": b"0", b"producer-seq": b"0"}


@dataclass(frozen=True)
class Step:
    """One request.

    Attributes:
        method: The method in capitals.
        path: The raw path.
        headers: The headers with names in lower case, without `content-length`.
        body: The body.
        query: The query without its question mark.
        needs_token: Whether the request needs the token of the claim before it.
    """

    method: str
    path: bytes
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    query: bytes = b""
    needs_token: bool = False

    @property
    def is_own(self) -> bool:
        """Returns whether the request is for a route of the server itself."""
        return self.path.startswith(CONTROL) or self.path in HEALTH


@dataclass(frozen=True)
class Case:
    """A sequence of requests with one extreme value.

    Attributes:
        label: The place of the extreme value, and the value.
        steps: The requests.
        about: The raw path of the subscription that the case is about, if there is one.
        lifetime: Headers of the PUT that may set when the stream expires.
        number: The number of the case on the command line, from 1.
    """

    label: str
    steps: tuple[Step, ...]
    about: bytes | None = None
    lifetime: dict[bytes, bytes] = field(default_factory=dict)
    number: int = 0


def shown(value: bytes) -> str:
    """Returns a value in the short form for labels."""
    return repr(value if len(value) <= 60 else value[:50] + b"..(%d)" % len(value))


def every_case() -> Iterator[Case]:
    """Yields all cases, each with paths of its own."""
    number = 0
    for maker in (_headers, _forks, _reads, _queries, _paths, _bodies, _control, _own):
        for case in maker():
            number += 1
            yield _numbered(case, number)


def _numbered(case: Case, number: int) -> Case:
    """Returns a case with its number in place of `{n}`, which gives the case paths of its own."""
    mark = b"%d" % number

    def own(step: Step) -> Step:
        return Step(
            step.method,
            step.path.replace(b"{n}", mark),
            tuple((name, value.replace(b"{n}", mark)) for name, value in step.headers),
            step.body.replace(b"{n}", mark),
            step.query,
            step.needs_token,
        )

    about = case.about.replace(b"{n}", mark) if case.about is not None else None
    steps = tuple(own(step) for step in case.steps)
    return Case(case.label, steps, about, case.lifetime, number)


S: Final = ROOT + b"/{n}"


def _headers() -> Iterator[Case]:
    """Yields PUTs and POSTs in which one header of a write has an extreme value or is repeated."""
    for name in WRITE_HEADERS:
        around = {**PRODUCER, name: b""} if name in PRODUCER else {name: b""}
        for value in HEADER_VALUES:
            headers = tuple({**around, name: value}.items())
            typed = headers if name == b"content-type" else (TYPE, *headers)
            label = f"{name.decode()}: {shown(value)}"
            then = Step("POST", S, (_type_of(headers),), b" more")
            yield Case(f"PUT {label}", (Step("PUT", S, typed, b"1"), then), lifetime={name: value})
            put = Step("PUT", S, (_type_of(headers),), b"1")
            post = Step("POST", S, typed, b" 2")
            yield Case(f"POST {label}", (put, post, then))
        twice = ((name, b"1"), (name, b"1"))
        typed = twice if name == b"content-type" else (TYPE, *twice)
        label = f"{name.decode()} given twice"
        yield Case(f"PUT {label}", (Step("PUT", S, typed, b"1"),))
        yield Case(f"POST {label}", (Step("PUT", S, (TYPE,), b"1"), Step("POST", S, typed, b"2")))


def _type_of(headers: tuple[Header, ...]) -> Header:
    """Returns the Content-Type for the other requests of a case: the one in `headers`, or text."""
    return next((header for header in headers if header[0] == b"content-type"), TYPE)


def _forks() -> Iterator[Case]:
    """Yields forks in which one fork header has an extreme value or is repeated."""
    source = Step("PUT", S, (TYPE,), b"0123456789")
    usual = {
        b"stream-forked-from": S,
        b"stream-fork-offset": b"-1",
        b"stream-fork-sub-offset": b"1",
    }
    for name in FORK_HEADERS:
        for value in HEADER_VALUES:
            for around in ({b"stream-forked-from": S}, usual):
                headers = tuple({**around, name: value}.items())
                fork = Step("PUT", S + b"/fork", headers, b"")
                more = Step("POST", S + b"/fork", (TYPE,), b"ab")
                yield Case(f"fork {name.decode()}: {shown(value)}", (source, fork, more))
        twice = (*usual.items(), (name, usual[name]))
        yield Case(f"fork {name.decode()} twice", (source, Step("PUT", S + b"/fork", twice)))


def _reads() -> Iterator[Case]:
    """Yields reads in which one header has an extreme value."""
    stream = Step("PUT", S, (TYPE,), b"0123456789")
    for name in READ_HEADERS:
        for value in HEADER_VALUES:
            headers = ((name, value),)
            label = f"{name.decode()}: {shown(value)}"
            live = Step("GET", S, headers, query=b"offset=-1&live=sse")
            steps = [Step(method, S, headers) for method in ("GET", "HEAD", "OPTIONS")]
            yield Case(f"read {label}", (stream, *steps, live))


def _queries() -> Iterator[Case]:
    """Yields reads in which one query parameter has an extreme value, or the query is malformed."""
    stream = Step("PUT", S, (TYPE,), b"0123456789")
    usual = {b"offset": b"now", b"live": b"long-poll", b"cursor": b"1"}
    for name in (b"offset", b"live", b"cursor", b"unknown"):
        for value in HEADER_VALUES:
            alone = name + b"=" + _quoted(value)
            label = f"{name.decode()}={shown(value)}"
            steps = [stream, Step("GET", S, query=alone), Step("HEAD", S, query=alone)]
            if name != b"live":
                rest = b"&".join(b"%b=%b" % each for each in usual.items() if each[0] != name)
                steps.append(Step("GET", S, query=alone + b"&" + rest))
            yield Case(f"query {label}", tuple(steps))
        yield Case(
            f"query {name.decode()} twice",
            (stream, Step("GET", S, query=b"%b=1&%b=1" % (name, name))),
        )
    for query in (b"&" * 100, b"=" * 100, b"a=b&" * 65, b"offset", b"offset=%zz", b"offset=%ff"):
        yield Case(f"query {shown(query)}", (stream, Step("GET", S, query=query)))


def _quoted(value: bytes) -> bytes:
    """Returns a value in which bytes that would end a query or a parameter are percent-encoded."""
    return b"".join(
        b"%%%02X" % byte if byte <= 32 or byte in b"#&%+" else bytes([byte]) for byte in value
    )


def _paths() -> Iterator[Case]:
    """Yields every extreme path of a stream."""
    for form in PATHS:
        path = S + form
        put, post = Step("PUT", path, (TYPE,), b"1"), Step("POST", path, (TYPE,), b"2")
        delete = Step("DELETE", path)
        yield Case(f"path {shown(form)}", (put, post, Step("GET", path), Step("HEAD", path)))
        yield Case(f"path {shown(form)} deleted", (put, delete, delete, put, post))


def _bodies() -> Iterator[Case]:
    """Yields every extreme body."""
    for value in JSON_VALUES:
        put = Step("PUT", S, (JSON,))
        steps = (
            put,
            Step("POST", S, (JSON,), value),
            Step("POST", S, (JSON,), b"[" + value + b"]"),
        )
        yield Case(f"JSON body {shown(value)}", steps)
        yield Case(f"JSON first body {shown(value)}", (Step("PUT", S, (JSON,), value),))
    for body in TEXTS:
        yield Case(
            f"body {shown(body)}", (Step("PUT", S, (TYPE,), b"1"), Step("POST", S, (TYPE,), body))
        )


def _own() -> Iterator[Case]:
    """Yields requests for documents of the server itself, with one extreme value in a header or in the query."""
    documents = [*HEALTH, *(CONTROL + name for name in (b"info", b"openapi.json", b"streams"))]
    for name in READ_HEADERS:
        for value in HEADER_VALUES:
            headers = ((name, value),)
            gets = [Step("GET", path, headers) for path in documents]
            heads = [Step("HEAD", path, headers, query=_quoted(value)) for path in documents]
            yield Case(f"document {name.decode()}: {shown(value)}", (*gets, *heads))
    for name in (b"prefix", b"after", b"limit", b"unknown"):
        for value in HEADER_VALUES:
            query = b"%b=%b" % (name, _quoted(value))
            steps = [Step(method, CONTROL + b"streams", query=query) for method in ("GET", "HEAD")]
            yield Case(f"listing {name.decode()}={shown(value)}", tuple(steps))
        twice = Step("GET", CONTROL + b"streams", query=b"%b=1&%b=1" % (name, name))
        yield Case(f"listing {name.decode()} twice", (twice,))
    for form in PATHS:
        after = Step("GET", CONTROL + b"streams", query=b"after=" + _quoted(form))
        yield Case(f"listing after {shown(form)}", (after, Step("GET", CONTROL + b"info" + form)))


# -- subscriptions -----------------------------------------------------------

SUBSCRIPTION: Final = CONTROL + b"subscriptions/s{n}"
WAKES: Final = {b"type": b'"pull-wake"', b"pattern": b'"p{n}/**"', b"wake_stream": b'"wake/{n}"'}
HOOK: Final = {
    b"type": b'"webhook"',
    b"pattern": b'"p{n}/**"',
    b"webhook": b'{"url":"http://127.0.0.1:9/"}',
}
FIELDS: Final = [
    b"type",
    b"pattern",
    b"streams",
    b"webhook",
    b"wake_stream",
    b"lease_ttl_ms",
    b"description",
    b"unknown",
]
ACK: Final = {b"wake_id": b'"{wake}"', b"generation": b"1", b"acks": b"[]", b"done": b"false"}


def document(fields: dict[bytes, bytes]) -> bytes:
    """Returns a JSON object with raw values."""
    return b"{" + b",".join(b'"%b":%b' % each for each in fields.items()) + b"}"


def _control() -> Iterator[Case]:
    """Yields control requests in which one field or path has an extreme value."""
    stream = Step("PUT", ROOT + b"/p{n}/a", (JSON,))
    news = Step("POST", ROOT + b"/p{n}/a", (JSON,), b"1")
    subscribe = Step("PUT", SUBSCRIPTION, (JSON,), document(WAKES))
    claim = Step("POST", SUBSCRIPTION + b"/claim", (JSON,), b'{"worker":"w"}')

    def about(label: str, *steps: Step) -> Case:
        return Case(label, steps, SUBSCRIPTION)

    for value in JSON_VALUES:
        for name in FIELDS:
            for base in (WAKES, HOOK):
                put = Step("PUT", SUBSCRIPTION, (JSON,), document({**base, name: value}))
                label = f"subscription {name.decode()} = {shown(value)}"
                yield about(label, put, put, stream, news, claim)
        body = document({b"streams": value})
        link = Step("POST", SUBSCRIPTION + b"/streams", (JSON,), body)
        yield about(f"link = {shown(value)}", subscribe, link)
        worker = Step("POST", SUBSCRIPTION + b"/claim", (JSON,), document({b"worker": value}))
        yield about(f"worker = {shown(value)}", subscribe, stream, news, worker)
        for name in ACK:
            body = document({**ACK, name: value})
            for action in (b"/ack", b"/callback", b"/release"):
                act = Step("POST", SUBSCRIPTION + action, (JSON,), body, needs_token=True)
                label = f"{action[1:].decode()} {name.decode()} = {shown(value)}"
                yield about(label, subscribe, stream, news, claim, act)
        for name in (b"stream", b"offset"):
            ack = document({b"stream": b'"p{n}/a"', b"offset": b'"-1"', name: value})
            body = document({**ACK, b"acks": b"[" + ack + b"]"})
            act = Step("POST", SUBSCRIPTION + b"/ack", (JSON,), body, needs_token=True)
            yield about(
                f"ack {name.decode()} = {shown(value)}", subscribe, stream, news, claim, act
            )
        whole = Step("PUT", SUBSCRIPTION, (JSON,), value)
        yield about(f"subscription body = {shown(value)}", whole)
    for form in PATHS:
        path = SUBSCRIPTION + form
        put = Step("PUT", path, (JSON,), document(WAKES))
        rest = [Step(method, path, (JSON,), b"{}") for method in ("GET", "POST", "DELETE")]
        yield about(f"subscription path {shown(form)}", put, *rest)
        unlink = Step("DELETE", SUBSCRIPTION + b"/streams" + form)
        yield about(f"unlink {shown(form)}", subscribe, unlink)
    for value in TEXTS:
        token = Step("POST", SUBSCRIPTION + b"/ack", (JSON, (b"authorization", b"Bearer " + value)))
        yield about(f"token {shown(value)}", subscribe, token)
