"""Makes the archived data directories, and records what readers saw. It was run once, with the last code of format 1.

The last commit before format 2 (`3b8f080`) made the archives. They must never be made again, because they represent the directories
that users have. In `format-1.tar.gz`, the first run of the server ended cleanly, so its streams are in the catalog and the logs. The
second run ended with `os._exit`, so its changes are only in the write-ahead log. `format-1-early-deadline.tar.gz` holds a stream that
expired in 1960. No version before format 2 could keep running on it once a checkpoint was due.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from durable_streams_server import DurableStreamTestServer, FileBackedStreamStore

SEGMENT = 256 * 1024
ROOT = "/v1/stream"
CENTURY = {"stream-ttl": "3000000000"}
PRODUCER = {"producer-id": "p", "producer-epoch": "3"}
DEPTH = 150


async def first_life(http: httpx.AsyncClient) -> None:
    """Makes streams that a clean stop moves to the logs and the catalog."""
    json_type, text = {"content-type": "application/json"}, {"content-type": "text/plain"}
    await put(http, "/json", json_type | CENTURY, b'[{"n":1.0},{"n":1.00, "n":2}]')
    for seq in range(5):
        await post(
            http, "/json", json_type | PRODUCER | {"producer-seq": str(seq)}, b'{"seq":%d}' % seq
        )
    await put(
        http,
        "/large",
        json_type,
        b"[" + b",".join(b'"%s"' % (b"x" * 900) for _ in range(120)) + b"]",
    )
    await put(http, "/text", text, "grüß dich\r\n".encode())
    await post(http, "/text", text | {"stream-seq": "0007"}, b"second line\n")
    await put(http, "/binary", {}, bytes(range(256)) * 40)
    await put(http, "/closed", text | {"stream-closed": "true"}, b"all of it")
    await put(
        http, "/dated", text | {"stream-expires-at": "2099-12-31T23:59:59.5+02:00"}, b"until then"
    )
    await put(http, "/empty", json_type)
    await put(http, "/with spaces/and \u00fcml\u00e4uts", text, b"named")
    await put(http, "/fork/0", text, b"0,")
    for depth in range(1, DEPTH + 1):
        await put(http, f"/fork/{depth}", {"stream-forked-from": f"{ROOT}/fork/{depth - 1}"})
        await post(http, f"/fork/{depth}", text, b"%d," % depth)
    await put(http, "/source", text, b"source of a fork")
    tail = (await http.head(ROOT + "/source")).headers["stream-next-offset"]
    await post(http, "/source", text, b" and more")
    await put(http, "/kept", {"stream-forked-from": ROOT + "/source", "stream-fork-offset": tail})
    await delete(http, "/source")
    await put(http, "/again", text, b"a first life")
    await delete(http, "/again")
    subscription = {
        "type": "webhook",
        "streams": ["json"],
        "webhook": {"url": "http://127.0.0.1:9/hook"},
    }
    await control(http, "hook", subscription)
    await put(http, "/wakes", json_type)
    await control(http, "pull", {"type": "pull-wake", "pattern": "te*", "wake_stream": "wakes"})


async def second_life(http: httpx.AsyncClient) -> None:
    """Makes changes that stay in the write-ahead log."""
    json_type, text = {"content-type": "application/json"}, {"content-type": "text/plain"}
    await post(http, "/json", json_type | PRODUCER | {"producer-seq": "5"}, b'{"seq":5}')
    await post(http, "/text", text, b"third line\n")
    await put(http, "/again", text, b"a second life")
    await put(http, "/late", json_type, b"[1,2,3]")
    await put(http, "/late/fork", {"stream-forked-from": ROOT + "/late"})
    await post(http, "/late/fork", json_type | {"stream-closed": "true"}, b"4")
    await delete(http, "/binary")
    await put(http, "/binary", {}, b"\x00\xff")


async def early_deadline(http: httpx.AsyncClient) -> None:
    """Makes streams whose deadlines do not fit a catalog key of format 1."""
    text = {"content-type": "text/plain"}
    await put(http, "/other", text, b"lives on")
    await put(http, "/10000", text | {"stream-expires-at": "9999-12-31T23:59:59-01:00"}, b"late")
    with contextlib.suppress(httpx.ReadError):  # the next checkpoint stops the store
        await put(http, "/1960", text | {"stream-expires-at": "1960-01-01T00:00:00Z"}, b"expired")


async def life(
    folder: Path, do: Callable[[httpx.AsyncClient], Awaitable[Any]], *, dies: bool = False
) -> Any:
    """Runs a server on a directory while `do` sends requests. Returns the result of `do`."""
    store = FileBackedStreamStore(folder, segment_size=SEGMENT)
    async with DurableStreamTestServer(store=store) as server:
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            done = await do(http)
        if dies:
            os._exit(0)
    store.close()
    return done


async def observed(http: httpx.AsyncClient) -> dict[str, Any]:
    """Returns the headers and a hash of the bytes of each stream, and the subscriptions, as readers see them."""
    paths = [
        "/json",
        "/large",
        "/text",
        "/binary",
        "/closed",
        "/dated",
        "/empty",
        "/kept",
        "/again",
        "/wakes",
    ]
    paths += ["/late", "/late/fork", "/source", "/with%20spaces/and%20%C3%BCml%C3%A4uts"]
    paths += [f"/fork/{depth}" for depth in (0, 1, 70, DEPTH)]
    names = (
        "content-type",
        "stream-next-offset",
        "stream-closed",
        "stream-ttl",
        "stream-expires-at",
    )
    found: dict[str, Any] = {"streams": {}, "subscriptions": {}}
    for path in paths:
        head, body = await http.head(ROOT + path), await http.get(ROOT + path)
        found["streams"][path] = {
            "status": body.status_code,
            "headers": {name: head.headers[name] for name in names if name in head.headers},
            "size": len(body.content) if body.is_success else None,
            "sha256": hashlib.sha256(body.content).hexdigest() if body.is_success else None,
        }
    for id_ in ("hook", "pull"):
        document = (await http.get(f"{ROOT}/__ds/subscriptions/{id_}")).json()
        document.pop("status", None)
        found["subscriptions"][id_] = {
            key: document[key] for key in ("type", "streams") if key in document
        }
    return found


async def put(
    http: httpx.AsyncClient, path: str, headers: dict[str, str], body: bytes = b""
) -> None:
    (await http.put(ROOT + path, headers=headers, content=body)).raise_for_status()


async def post(http: httpx.AsyncClient, path: str, headers: dict[str, str], body: bytes) -> None:
    (await http.post(ROOT + path, headers=headers, content=body)).raise_for_status()


async def delete(http: httpx.AsyncClient, path: str) -> None:
    (await http.delete(ROOT + path)).raise_for_status()


async def control(http: httpx.AsyncClient, id_: str, document: dict[str, Any]) -> None:
    (await http.put(f"{ROOT}/__ds/subscriptions/{id_}", json=document)).raise_for_status()


def make(
    folder: Path, lives: list[tuple[Callable[[httpx.AsyncClient], Awaitable[Any]], bool]]
) -> None:
    """Runs a server several times, each time in a process of its own, and archives its directory."""
    for do, dies in lives:
        child = os.fork()
        if child == 0:
            asyncio.run(life(folder, do, dies=dies))
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{do.__name__} failed")
    with tarfile.open(folder.with_suffix(".tar.gz"), "w:gz") as packed:
        packed.add(folder, arcname="data")


def main(folder: Path) -> None:
    """Makes both archives in a folder, and records what readers of the first one see."""
    make(folder / "format-1", [(first_life, False), (second_life, True)])
    make(folder / "format-1-early-deadline", [(early_deadline, True)])
    seen = asyncio.run(life(folder / "format-1", observed))
    (folder / "format-1.json").write_text(json.dumps(seen, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
