"""A server that opens its store and then forks workers, as `gunicorn --preload` does: `python -m tests.crash.preload DIR WHEN`.

With `before` for WHEN, the workers are forked before an event loop runs the store; with `after`, while it runs. The server prints
two lines: the URL of the process that owns the store, and the URL of the workers.
"""

import asyncio
import os
import socket
import sys
import threading
import warnings

from durable_streams_server import FileBackedStreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.serving.listening import listen, url_of
from durable_streams_server.http.serving.server import Server

WORKERS = 2


def fork_workers(app: DurableStreamsApp, listening: socket.socket) -> None:
    """Forks workers that serve a copy of an application on a socket."""
    # Python warns of forks in a process with threads, but such forks are what this program is for.
    warnings.simplefilter("ignore", DeprecationWarning)
    for _ in range(WORKERS):
        if os.fork() == 0:
            try:
                asyncio.run(Server(app, "critical").serve(sockets=[listening]))
            finally:
                os._exit(0)


def main() -> None:
    """Runs the server."""
    directory, when = sys.argv[1:]
    app = create_app(store=FileBackedStreamStore(directory))
    own, shared = listen("127.0.0.1", 0), listen("127.0.0.1", 0)

    def announce() -> None:
        sys.stdout.write(f"{url_of(own)}\n{url_of(shared)}\n")
        sys.stdout.flush()

    def fork_then_announce() -> None:
        fork_workers(app, shared)
        announce()

    def started() -> None:
        if when == "before":
            announce()
        else:  # fork from another thread, because the thread that forks becomes the worker
            threading.Thread(target=fork_then_announce).start()

    if when == "before":
        fork_workers(app, shared)
    asyncio.run(Server(app, "critical", started).serve([own]))


if __name__ == "__main__":
    main()
