"""The command on a data directory: what survives a stop, what is refused, and how a failed disk ends it."""

import resource
import subprocess
from pathlib import Path

import httpx

from tests.process import COMMAND, launch, serve

STREAM = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=20)


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


def test_a_directory_in_use_or_of_another_format_is_one_line_and_its_own_exit_code(
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


def test_a_failed_write_ends_the_process_and_says_which_file(tmp_path: Path) -> None:
    limit = (
        96 * 1024 * 1024
    )  # room for a segment of the write-ahead log, not for this stream's own log

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    acknowledged = 0
    with httpx.Client(base_url=address, timeout=20, headers={"content-type": "a/b"}) as http:
        http.put(STREAM)
        try:
            for _ in range(60):
                answer = http.post(STREAM, content=b"x" * (4 * 1024 * 1024))
                acknowledged += answer.status_code == 204
        except httpx.HTTPError:
            pass  # cut off: nobody can know what became of it
    _, said = process.communicate(timeout=20)
    assert process.returncode == 5
    last = said.strip().splitlines()[-1]
    assert "the store has stopped" in last
    assert "File too large" in last
    assert "logs/" in last
    with serve("--data-dir", str(tmp_path)) as server, httpx.Client(base_url=server.url) as http:
        tail = int(http.head(STREAM).headers["stream-next-offset"][-16:])
        assert acknowledged <= tail // (4 * 1024 * 1024) <= acknowledged + 1
