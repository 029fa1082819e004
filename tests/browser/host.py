"""A small web server for the pages of the tests. It serves `page.html`, other documents, and `node_modules`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parents[2]
PAGE = (Path(__file__).parent / "page.html").read_bytes()


@dataclass
class Host:
    """A running web server.

    Attributes:
        port: The port on 127.0.0.1 that the server listens on.
        documents: Documents by their paths, each with its content type.
    """

    port: int
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Returns the origin of the pages."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def other_origin(self) -> str:
        """Returns the origin of the same pages under another host name."""
        return f"http://localhost:{self.port}"


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, host: Host, *args: object) -> None:
        self._host = host
        super().__init__(*args, directory=str(ROOT / "node_modules"))  # type: ignore[arg-type]  # partial passes what the server gives

    def do_GET(self) -> None:
        """Answers with a document, or with a file of `node_modules`."""
        document = self._host.documents.get(self.path)
        if document is None:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", document[0])
        self.send_header("Content-Length", str(len(document[1])))
        self.end_headers()
        self.wfile.write(document[1])

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@contextmanager
def hosting() -> Iterator[Host]:
    """Runs a web server until the block ends."""
    host = Host(0, {"/": ("text/html", PAGE)})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, host)) as server:
        host.port = server.server_port
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield host
        finally:
            server.shutdown()
            thread.join()
