"""A small web server for the pages of the tests. It serves `page.html`, other documents, and `node_modules`."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.http.certificates import Certificate

ROOT = Path(__file__).parents[2]
PAGE = (Path(__file__).parent / "page.html").read_bytes()


@dataclass
class Host:
    """A running web server.

    Attributes:
        port: The port on 127.0.0.1 that the server listens on.
        scheme: http or https.
        documents: Documents by their paths, each with its content type.
        cookies: Values of `Set-Cookie` by the paths of the documents that set them.
    """

    port: int
    scheme: str = "http"
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    cookies: dict[str, list[str]] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Returns the origin of the pages."""
        return self.origin_at("127.0.0.1")

    @property
    def other_origin(self) -> str:
        """Returns the origin of the same pages under another host name."""
        return self.origin_at("localhost")

    def origin_at(self, name: str) -> str:
        """Returns the origin of the same pages under the name of a host."""
        return f"{self.scheme}://{name}:{self.port}"


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
        for cookie in self._host.cookies.get(self.path, []):
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(document[1])

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@contextmanager
def hosting(certificate: Certificate | None = None) -> Iterator[Host]:
    """Runs a web server until the block ends. With a certificate, it speaks HTTPS."""
    host = Host(0, "http" if certificate is None else "https", {"/": ("text/html", PAGE)})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, host)) as server:
        host.port = server.server_port
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield host
        finally:
            server.shutdown()
            thread.join()
