"""An application and the protected streams of its users, on two hosts of one site. Strangers have pages on other hosts.

Chromium resolves all names in `.test` to this machine. The two schemes differ in what it tells a server: over HTTPS it sends
`Sec-Fetch-Site` and speaks HTTP/2, and over HTTP it sends neither.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from playwright.sync_api import Page

from tests.access import provider
from tests.browser.host import ROOT, Host, hosting
from tests.http import certificates
from tests.http.certificates import Certificate
from tests.process import COMMAND, ServerProcess, launch, run

SITE = "example.test"
APPLICATION = f"app.{SITE}"
STREAMS = f"streams.{SITE}"
SISTER = f"sister.{SITE}"  # belongs to someone else, but is of the same site
STRANGER = "stranger.test"
COOKIE = "durable_streams_token"
GRANT = "create,append,read,close,delete:/v1/stream/*"
ALL_STREAMS = [{"verbs": GRANT.partition(":")[0].split(","), "paths": ["/v1/stream/*"]}]


@dataclass
class Application:
    """An application whose pages use protected streams.

    Attributes:
        host: The web server of its pages.
        flags: The flags of the server of its streams.
        token: A static token that its backend holds.
        certificate: The certificate of all web servers, over HTTPS.
    """

    host: Host
    flags: list[str]
    token: str
    certificate: Certificate | None

    @property
    def origin(self) -> str:
        """Returns the origin of the application's pages."""
        return self.host.origin_at(APPLICATION)

    def log_in(self, page: Page, seconds: int, same_site: str = "Strict") -> None:
        """Lets a page of the application log its user in: the backend sets a cookie that is valid for some seconds."""
        expires = int(time.time()) + seconds
        token = provider.issue(exp=expires, streams=ALL_STREAMS)
        rules = f"Domain={SITE}; Path=/v1/stream; HttpOnly; SameSite={same_site}"
        if self.host.scheme == "https":
            rules += "; Secure"
        # Over HTTP/2, Chromium sends each cookie in a header of its own.
        pairs = ("first=1", f"{COOKIE}={token}", "last=1")
        self.host.documents["/login"] = ("text/plain", b"welcome")
        self.host.cookies["/login"] = [f"{pair}; {rules}" for pair in pairs]
        page.goto(self.origin)
        assert page.evaluate("async () => (await fetch('/login')).text()") == "welcome"
        assert page.evaluate("() => document.cookie") == ""  # scripts never see the token


@contextmanager
def running(scheme: str, directory: Path) -> Iterator[Application]:
    """Runs the web server of an application, and prepares tokens and keys for the server of its streams."""
    tokens, keys = directory / "tokens.json", directory / "keys.json"
    keys.write_bytes(provider.usual_key_set())
    made = run("token", "create", "--file", str(tokens), "--allow", GRANT)
    assert made.returncode == 0, made.stderr
    certificate = certificates.make(directory) if scheme == "https" else None
    with hosting(certificate) as host:
        flags = ["--auth", f"tokens:{tokens}", "--auth", f"jwks:{keys}"]
        flags += ["--jwt-issuer", provider.ISSUER, "--jwt-audience", provider.AUDIENCE]
        flags += ["--jwt-leeway", "0", "--cors-origin", host.origin_at(APPLICATION)]
        if certificate is not None:
            flags += ["--tls-cert", certificate.chain, "--tls-key", certificate.key]
        yield Application(host, flags, made.stdout.strip(), certificate)


@dataclass
class Stream:
    """A protected stream.

    Attributes:
        url: Its URL for pages.
        address: Its URL for the test itself, which does not know the names of the hosts.
        token: A static token.
    """

    url: str
    address: str
    token: str

    def ask(self, method: str, **options: Any) -> httpx.Response:
        """Sends a request with the token."""
        headers = {"authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        answer = httpx.request(method, self.address, headers=headers, verify=False, **options)
        answer.raise_for_status()
        return answer

    def append(self, values: range) -> None:
        """Appends JSON values one by one."""
        for value in values:
            self.ask("POST", content=str(value), headers={"content-type": "application/json"})


def new_stream(
    application: Application,
    server: ServerProcess,
    content: str = "[]",
    kind: str = "application/json",
) -> Stream:
    """Creates a protected stream and returns it."""
    port, path = urlsplit(server.url).port, f"/v1/stream/{uuid4()}"
    url = f"{application.host.scheme}://{STREAMS}:{port}{path}"
    made = Stream(url, f"{server.url}{path}", application.token)
    made.ask("PUT", content=content, headers={"content-type": kind})
    return made


def restarted(application: Application, server: ServerProcess, *flags: str) -> Any:
    """Runs a server again at the port of one that has ended."""
    return launch(*application.flags, *flags, "--port", str(urlsplit(server.url).port))


def sign_by_command(url: str, token: str, seconds: int) -> str:
    """Signs a URL with the command."""
    command = [*COMMAND, "token", "sign-url", "--url", url, "--expires-in", f"{seconds}s"]
    done = subprocess.run(command, input=token, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sign_by_program(url: str, token: str, seconds: int) -> str:
    """Signs a URL with the program on the page docs/access.md, as the backend of an application does."""
    page = (ROOT / "docs" / "access.md").read_text()
    program: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], program)
    parts = urlsplit(url)
    return str(program["sign_url"](f"{parts.scheme}://{parts.netloc}", parts.path, token, seconds))


SIGNERS = {"command": sign_by_command, "program": sign_by_program}
