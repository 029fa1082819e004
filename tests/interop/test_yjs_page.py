"""Runs the programs of docs/yjs.md unchanged, except for their ports."""

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.process import serve
from tests.vitest import ROOT

PAGE = ROOT / "docs" / "yjs.md"
TIME_LIMIT = 30  # seconds


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def command(name: str, streams: str, port: int) -> list[str]:
    """Returns the command that runs one program of the page.

    Args:
        name: name of the program on the page.
        streams: URL of the server of streams.
        port: port of the Yjs server.
    """
    found = re.search(rf"<!-- {name} -->\n```js\n(.*?)```", PAGE.read_text(), re.S)
    assert found is not None
    code = found[1].replace("http://127.0.0.1:4437", streams).replace("4438", str(port))
    return ["node", "--input-type=module", "--eval", code]


@contextmanager
def yjs_server(streams: str, port: int) -> Iterator[None]:
    """Runs the Yjs server of the page until the end of the block."""
    server = subprocess.Popen(
        command("yjs-server.mjs", streams, port), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(TIME_LIMIT, server.kill)
    watchdog.start()
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == f"Yjs documents at http://127.0.0.1:{port}\n"
        yield
    finally:
        watchdog.cancel()
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def edit(streams: str, port: int) -> str:
    """Runs the peer program of the page, and returns its output."""
    peer = subprocess.run(
        command("peer.mjs", streams, port),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=True,
    )
    assert peer.stderr == ""
    return peer.stdout


def test_peers_of_the_yjs_page_share_one_document() -> None:
    port = free_port()
    with serve("--memory") as server:
        with yjs_server(server.url, port):
            assert edit(server.url, port) == "hello \n"
            assert edit(server.url, port) == "hello hello \n"
        with yjs_server(server.url, port):
            assert edit(server.url, port) == "hello hello hello \n"
