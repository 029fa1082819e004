"""`serve` on a data directory: data survives restarts, unusable directories are refused, and a failed disk stops the server."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.process import launch, run, serve

STREAM = "/v1/stream/a"
OTHER = "/v1/stream/b"
TEXT = {"content-type": "text/plain"}


def test_streams_survive_a_stop_and_a_kill(tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path))
    with serve(*flags) as server, httpx.Client(base_url=server.url, headers=TEXT) as http:
        assert server.process.stdout is not None
        assert str(tmp_path) in server.process.stdout.readline()
        http.put(STREAM, headers={"stream-ttl": "1000"})
        tail = http.post(STREAM, content="hello").headers["stream-next-offset"]
    with launch(*flags) as server, httpx.Client(base_url=server.url, headers=TEXT) as http:
        assert http.get(STREAM).text == "hello"
        assert http.head(STREAM).headers["stream-ttl"] == "1000"
        http.post(STREAM, content=" world", headers={"stream-closed": "true"})
    with serve(*flags) as server, httpx.Client(base_url=server.url) as http:
        rest = http.get(STREAM, params={"offset": tail})
        assert (rest.text, rest.headers["stream-closed"]) == (" world", "true")


def test_directory_in_use_or_of_another_format_prints_one_line_and_exits_4(
    tmp_path: Path,
) -> None:
    with serve("--data-dir", str(tmp_path)):
        taken = run("serve", "--port", "0", "--data-dir", str(tmp_path))
    (tmp_path / "FORMAT").write_text("something else")
    other = run("serve", "--port", "0", "--data-dir", str(tmp_path))
    absent = run("serve", "--port", "0", "--no-create", "--data-dir", str(tmp_path / "nowhere"))
    for shown, reason in ((taken, "in use"), (other, "format"), (absent, "holds no store")):
        assert shown.returncode == 4
        assert shown.stdout == ""
        assert shown.stderr.count("\n") == 1
        assert reason in shown.stderr


#: The command, on a disk whose syncs fail once the file named by the variable BROKEN exists.
FAILING = """
import errno, os
sync = os.fdatasync
def fail_or_sync(descriptor):
    if os.path.exists(os.environ["BROKEN"]):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    sync(descriptor)
os.fdatasync = fail_or_sync
from durable_streams_server.cli import main
main()
"""


def test_failed_write_exits_5_and_names_the_file(tmp_path: Path) -> None:
    broken, data = tmp_path / "broken", tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", FAILING, "serve", "--port", "0", "--data-dir", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "BROKEN": str(broken)},
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    acknowledged = 0
    with httpx.Client(base_url=address, timeout=20, headers={"content-type": "a/b"}) as http:
        http.put(STREAM)
        broken.touch()
        try:
            for _ in range(60):
                answer = http.post(STREAM, content=b"x" * (4 * 1024 * 1024))
                acknowledged += answer.status_code == 204
        except httpx.HTTPError:
            pass  # the server closed the connection, so the outcome of the append is unknown
    _, said = process.communicate(timeout=20)
    assert process.returncode == 5
    last = said.strip().splitlines()[-1]
    assert "the store has stopped" in last
    assert "Input/output error" in last
    assert "logs/" in last
    with serve("--data-dir", str(data)) as server, httpx.Client(base_url=server.url) as http:
        tail = int(http.head(STREAM).headers["stream-next-offset"][-16:])
        assert acknowledged <= tail // (4 * 1024 * 1024) <= acknowledged + 1


def test_append_past_the_file_size_limit_returns_507_even_after_restart(tmp_path: Path) -> None:
    limit = 12 * 1024 * 1024
    flags = ("--data-dir", str(tmp_path), "--wal-size", "36m", "--max-body", "3m")
    shown: list[tuple[int, int]] = []
    for _ in range(2):
        with (
            serve(*flags, largest_file=limit) as server,
            httpx.Client(base_url=server.url, headers=TEXT) as http,
        ):
            http.put(STREAM)
            http.put(OTHER)
            while True:
                answer = http.post(STREAM, content=b"x" * 1024 * 1024)
                if answer.status_code == 507:
                    break
                assert answer.status_code in (204, 503)
            assert answer.json()["error"]["code"] == "LARGEST_FILE"
            tail = int(http.head(STREAM).headers["stream-next-offset"][-16:])
            shown.append((tail, http.post(OTHER, content=b"y").status_code))
    assert shown == [(limit, 204)] * 2
