"""Trials about single requests: large bodies, JSON that is expensive to parse, large responses, many chunks."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Final

from ..client import Answer, Connection, connect, create, octets
from ..servers import Running
from .trial import MIB, Operation, Outcome, Steps, Trial

OCTETS: Final = "application/octet-stream"
JSON: Final = "application/json"
PATH: Final = "/v1/stream/large"
_VALUE: Final = b'{"id":1000000,"text":"%b"}' % (b"x" * 76)


def append_all(port: int, path: str, media: str, bodies: Iterable[bytes]) -> int:
    """Creates a stream and appends bodies to it, with retries after a 503. Returns the number of bytes appended."""
    create(port, [path], media)
    connection = Connection(port)
    size = 0
    for body in bodies:
        request = octets("POST", path, media, body)
        while (answer := connection.ask(request)).status == 503:
            time.sleep(0.05)
        if answer.status >= 300:
            raise RuntimeError(f"an append was answered with {answer.status}")
        size += len(body)
    connection.close()
    return size


def json_bodies(size: int) -> Iterator[bytes]:
    """Returns the bodies of appends of 4 MiB of JSON values of 100 bytes, `size` bytes in all."""
    values = 4 * MIB // (len(_VALUE) + 1)
    body = b"[" + b",".join([_VALUE] * values) + b"]"
    return (body for _ in range(size // len(body)))


def status_summary(answers: Iterable[int]) -> str:
    """Returns a short remark with the number of responses of each status."""
    seen = list(answers)
    return "answered with " + ", ".join(f"{seen.count(one)} × {one}" for one in sorted(set(seen)))


def ask_for_status(connection: Connection, request: bytes) -> int:
    """Sends a request, and returns its status, or 0 if the server closed the connection.

    The server may refuse the request before all of it is sent.
    """
    try:
        return connection.ask(request).status
    except ConnectionError:
        try:
            return connection.receive().status
        except ConnectionError:
            return 0


def run_in_threads(work: Callable[[int], None], count: int) -> None:
    """Calls `work` with the numbers from 0 to `count` - 1, each in its own thread, and waits for all threads."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _post(make: Callable[[], bytes], media: str = JSON) -> Operation:
    """Returns an operation that appends one body."""

    def operation(server: Running) -> Steps:
        create(server.port, [PATH], media)
        body = make()
        request = octets("POST", PATH, media, body)
        yield server
        connection = Connection(server.port)
        status = ask_for_status(connection, request)
        connection.close()
        yield Outcome(
            len(body) if status < 300 else 0, status in (0, 500), status_summary([status])
        )

    return operation


def _aged(server: Running) -> Steps:
    """Appends strings of 40 MiB from five clients at once, after one of 30 MiB.

    After the string of 30 MiB, malloc by default allocates blocks of this size in its heap, where growing a block copies it.
    """
    create(server.port, [f"{PATH}-{n}" for n in range(5)], JSON)
    connection = Connection(server.port)
    connection.ask(octets("POST", f"{PATH}-0", JSON, b'"' + b"x" * (30 * MIB) + b'"'))
    connection.close()
    body = b'"' + b"x" * (40 * MIB) + b'"'
    statuses: list[int] = []

    def append(number: int) -> None:
        connection = Connection(server.port, f"127.2.{number}.1")
        statuses.append(ask_for_status(connection, octets("POST", f"{PATH}-{number}", JSON, body)))
        connection.close()

    yield server
    run_in_threads(append, 5)
    taken = sum(status < 300 for status in statuses)
    yield Outcome(
        taken * len(body), statuses.count(0) + statuses.count(500), status_summary(statuses)
    )


def _chunks(server: Running) -> Steps:
    """Sends a body of ten million chunks of one byte."""
    create(server.port, [PATH], OCTETS)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {OCTETS}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    body = b"1\r\nx\r\n" * 10_000_000 + b"0\r\n\r\n"
    yield server
    connection = Connection(server.port)
    connection.send(head.encode())
    status = ask_for_status(connection, body)
    yield Outcome(10_000_000, status == 0, status_summary([status]))


def _get_value(server: Running) -> Steps:
    """Reads a JSON value of 60 MiB three times."""
    append_all(server.port, PATH, JSON, [b'"' + b"x" * (60 * MIB) + b'"'])
    yield server
    connection = Connection(server.port)
    answers = [connection.ask(octets("GET", f"{PATH}?offset=-1")) for _ in range(3)]
    yield Outcome(bad=_short(answers, 60 * MIB))


def _short(answers: Iterable[Answer], size: int) -> int:
    """Returns the number of responses that failed or have a body of less than `size` bytes."""
    return sum(answer.status != 200 or answer.size < size for answer in answers)


def _pipelined_pages(size: int, count: int, media: str = OCTETS) -> Operation:
    """Returns an operation that pipelines reads of pages on one connection, for at most four seconds."""

    def operation(server: Running) -> Steps:
        if media == JSON:
            append_all(server.port, PATH, JSON, json_bodies(4 * size))
        else:
            append_all(
                server.port, PATH, OCTETS, repeat(b"x" * min(size, MIB), max(1, size // MIB))
            )
        request = octets("GET", f"{PATH}?offset=-1")
        yield server
        with connect(server.port) as reading:
            reading.sendall(request * count)
            read = drain(reading, 4.0, count * size)
        yield Outcome(note=f"{read / MIB:,.0f} MiB read")

    return operation


def drain(reading: socket.socket, seconds: float, size: int) -> int:
    """Reads for some seconds, or until `size` bytes have arrived. Returns the number of bytes."""
    buffer = bytearray(MIB)
    reading.settimeout(seconds)
    deadline, read = time.monotonic() + seconds, 0
    try:
        while read < size and time.monotonic() < deadline and (some := reading.recv_into(buffer)):
            read += some
    except TimeoutError:
        pass
    return read


def _pipelined_small(request: bytes, count: int) -> Operation:
    """Returns an operation that pipelines small requests on one connection, as fast as the server accepts them."""

    def operation(server: Running) -> Steps:
        create(server.port, [PATH], OCTETS)
        last = request.replace(b"Host:", b"Connection: close\r\nHost:")
        rest = memoryview(request * (count - 1) + last)
        yield server
        with connect(server.port) as asking:
            asking.setblocking(False)
            read = 0
            buffer = bytearray(MIB)
            while rest:
                with contextlib.suppress(BlockingIOError):
                    rest = rest[asking.send(rest[: 1 << 18]) :]
                with contextlib.suppress(BlockingIOError):
                    read += asking.recv_into(buffer)
                time.sleep(0.0002)
            read += drain(asking, 10.0, 1 << 40)  # until the server closes the connection
        yield Outcome(note=f"{read / MIB:,.1f} MiB of answers")

    return operation


_SMALL_APPEND: Final = octets("POST", PATH, OCTETS, b"x" * 100)

TRIALS: Final = (
    Trial("string", "POST of a 63 MiB JSON string", _post(lambda: b'"' + b"x" * (63 * MIB) + b'"')),
    Trial("million", "POST of 1 million numbers", _post(lambda: b"[" + b"1," * 999_999 + b"1]")),
    Trial(
        "brackets",
        "POST of 64 MiB of [ in a string",
        _post(lambda: b'"' + b"[" * (64 * MIB - 2) + b'"'),
    ),
    Trial(
        "numbers", "POST of 33 million numbers", _post(lambda: b"[" + b"1," * 32_999_999 + b"1]")
    ),
    Trial(
        "surrogate",
        "POST of a lone surrogate and 8 million numbers",
        _post(lambda: b'["\\ud83d"' + b",1" * 8_000_000 + b"]"),
    ),
    Trial(
        "deep",
        "POST of 60 MiB of nested arrays",
        _post(lambda: b"[" * (30 * MIB) + b"]" * (30 * MIB)),
    ),
    Trial("binary", "POST of 64 MiB of octets", _post(lambda: b"x" * (64 * MIB), OCTETS)),
    Trial("aged", "five clients POST strings of 40 MiB at once, after one of 30 MiB", _aged),
    Trial("chunks", "a body of 10 million chunks of one byte", _chunks),
    Trial("get-value", "GET of a JSON value of 60 MiB, three times", _get_value),
    Trial(
        "pipeline",
        "one connection pipelines 500 GETs of 4 MiB pages",
        _pipelined_pages(4 * MIB, 500),
    ),
    Trial(
        "pipeline-json",
        "one connection pipelines 500 GETs of 4 MiB pages of JSON",
        _pipelined_pages(4 * MIB, 500, JSON),
    ),
    Trial(
        "pipeline-small",
        "one connection pipelines 20,000 GETs of 15 KB pages",
        _pipelined_pages(15_000, 20_000),
    ),
    Trial(
        "pipeline-quarter",
        "one connection pipelines 4,000 GETs of 256 KiB pages",
        _pipelined_pages(MIB // 4, 4000),
    ),
    Trial(
        "pipeline-reads",
        "one connection pipelines 100,000 small GETs",
        _pipelined_small(octets("GET", f"{PATH}?offset=-1"), 100_000),
    ),
    Trial(
        "pipeline-appends",
        "one connection pipelines 20,000 small appends",
        _pipelined_small(_SMALL_APPEND, 20_000),
    ),
)
