"""`python -m benchmarks.protected`: measures what access control and limits cost an append on files.

Two servers run side by side and are measured alternately with appends on 32 connections. Everybody may use the first one. The second one
needs a static token, and has limits of appends, bytes, streams and live readers that the load does not reach. Both count for `/metrics`,
as every server does. The script prints the ratio of their rates, and fails if it is below 0.85.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from . import wrk
from .client import Connection, octets
from .compare import found
from .servers import KINDS, LOAD_CORE, SCRATCH, Kind, Running, running

_LEAST: Final = 0.85
_STREAMS: Final = 64
_CONNECTIONS: Final = 32
_WINDOWS: Final = 4  # windows per pair of servers
_TYPE: Final = "application/octet-stream"
_BODY: Final = "x" * 100
_LIMITS: Final = (
    *("--max-appends-per-second", "10000000", "--max-bytes-per-second", "10g"),
    *("--max-streams", "1000000", "--max-stream-bytes", "900g", "--max-total-bytes", "900g"),
    *("--max-live-readers", "10000", "--max-live-readers-per-stream", "1000"),
)
_COMMAND: Final = (sys.executable, "-c", "from durable_streams_server.cli import main; main()")


def main() -> int:
    """Prints the median ratio of the rates. Returns 1 if it is below `_LEAST`."""
    rounds = int(os.environ.get("ROUNDS") or 24)
    seconds = int(os.environ.get("SECONDS") or 1)
    os.sched_setaffinity(0, {LOAD_CORE})
    SCRATCH.mkdir(exist_ok=True)
    ratios: list[float] = []
    rates: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory:
        file = Path(directory) / "tokens.json"
        token = _make_token(file)
        KINDS["protected"] = _protected(file)
        while len(ratios) < rounds:
            with running("files") as open_server, running("protected") as protected:
                _create(open_server, None)
                _create(protected, token)
                for turn in range(_WINDOWS):
                    first = _rate(protected, seconds, token) if turn % 2 else None
                    without = _rate(open_server, seconds, None)
                    with_all = first if first is not None else _rate(protected, seconds, token)
                    ratios.append(with_all / without)
                    rates.append((with_all, without))
    result = found(ratios)
    ours, theirs = (statistics.median(each) for each in zip(*rates, strict=True))
    print(
        f"{result.median:.2f}  from {result.low:.2f} to {result.high:.2f} in {len(ratios)} pairs  appends on files, "
        f"{_CONNECTIONS} connections: {ours:,.0f}/s with token and limits, {theirs:,.0f}/s without"
    )
    return int(result.median < _LEAST)


def _make_token(file: Path) -> str:
    """Creates a token that may create and append, and returns it."""
    arguments = ("token", "create", "--file", str(file), "--allow", "create,append:/v1/stream/*")
    made = subprocess.run([*_COMMAND, *arguments], stdout=subprocess.PIPE, check=True, text=True)
    return made.stdout.strip()


def _protected(file: Path) -> Kind:
    """Returns the kind of a server that lets in only the tokens of a file."""
    plain = KINDS["files"].command

    def command(port: int, directory: str) -> list[str]:
        return [*plain(port, directory), "--auth", f"tokens:{file}", *_LIMITS]

    return Kind("this, files, protected", command, is_durable=True)


def _create(server: Running, token: str | None) -> None:
    """Creates the streams."""
    connection = Connection(server.port)
    for number in range(_STREAMS):
        request = octets("PUT", f"/v1/stream/s{number}", _TYPE)
        if token is not None:
            line, rest = request.split(b"\r\n", 1)
            request = line + f"\r\nAuthorization: Bearer {token}\r\n".encode() + rest
        status = connection.ask(request).status
        if status != 201:
            raise RuntimeError(f"a create got {status}")
    connection.close()


def _rate(server: Running, seconds: int, token: str | None) -> float:
    """Measures good appends per second."""
    more = () if token is None else (token,)
    load = wrk.run(
        server.url, _CONNECTIONS, seconds, "POST", "/v1/stream/s#", _STREAMS, _TYPE, _BODY, *more
    )
    if load.bad:
        raise RuntimeError(f"{load.bad} appends failed")
    return load.rate


if __name__ == "__main__":
    sys.exit(main())
