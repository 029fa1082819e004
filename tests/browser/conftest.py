"""One headless Chromium for all tests, its profiles and tabs, and the server and streams that pages read."""

import json
import shutil
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, BrowserType, Page, sync_playwright

from tests.browser.host import Host, hosting
from tests.process import ServerProcess, serve

_RESOLVER = "MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
PATIENCE = 15_000  # milliseconds that an action in the browser may take


@pytest.fixture(scope="package")
def launching() -> Iterator[tuple[BrowserType, dict[str, Any]]]:
    """Yields the launcher of Debian's Chromium, and its options. Playwright's own build is never downloaded."""
    path = shutil.which("chromium")
    assert path is not None, "chromium is not installed: `make test` installs it"
    # As root, Chromium cannot use its sandbox. /dev/shm is small in containers. The resolver rules keep all requests on this machine,
    # and give it names such as app.example.test.
    flags = ["--no-sandbox", "--disable-dev-shm-usage", f"--host-resolver-rules={_RESOLVER}"]
    with sync_playwright() as playwright:
        yield playwright.chromium, {"executable_path": path, "args": flags}


@pytest.fixture(scope="package")
def browser(launching: tuple[BrowserType, dict[str, Any]]) -> Iterator[Browser]:
    """Runs Chromium."""
    kind, options = launching
    chromium = kind.launch(**options)
    yield chromium
    chromium.close()


@pytest.fixture(scope="package")
def permissive(
    launching: tuple[BrowserType, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    """Runs a second Chromium, whose profile sends cookies with the requests of pages of other sites. Debian's Chromium does not by default."""
    folder = tmp_path_factory.mktemp("profile")
    preferences = {"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": False}}
    (folder / "Default").mkdir()
    (folder / "Default" / "Preferences").write_text(json.dumps(preferences))
    kind, options = launching
    profile = kind.launch_persistent_context(folder, ignore_https_errors=True, **options)
    profile.set_default_timeout(PATIENCE)
    yield profile
    profile.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Yields a fresh profile, with a cache, cookies and connections of its own."""
    fresh = new_context(browser)
    yield fresh
    fresh.close()


def new_context(browser: Browser) -> BrowserContext:
    """Returns a fresh profile, which trusts any certificate."""
    fresh = browser.new_context(ignore_https_errors=True)
    fresh.set_default_timeout(PATIENCE)
    return fresh


@pytest.fixture(scope="package")
def host() -> Iterator[Host]:
    """Runs the web server for the pages. Its origin differs from that of the streams."""
    with hosting() as running:
        yield running


@pytest.fixture(scope="package")
def tab(browser: Browser) -> Iterator[Page]:
    """Yields a tab that tests share unless they need a fresh profile, because a new tab takes half a second."""
    profile = new_context(browser)
    yield profile.new_page()
    profile.close()


@pytest.fixture
def page(tab: Page, host: Host) -> Page:
    """Returns the shared tab without cookies, on a page of the host."""
    tab.context.clear_cookies()
    tab.goto(host.origin)
    return tab


@pytest.fixture(scope="package")
def server() -> Iterator[ServerProcess]:
    """Runs a server with default settings. Tests that stop a server must start their own."""
    with serve("--memory") as running:
        yield running


@pytest.fixture
def url(server: ServerProcess) -> str:
    """Returns the URL of a new JSON stream that holds the value 1."""
    return new_stream(server.url)


def new_stream(base: str, values: str = "[1]") -> str:
    """Creates a JSON stream at a random path and returns its URL."""
    url = f"{base}/v1/stream/{uuid4()}"
    headers = {"content-type": "application/json"}
    httpx.put(url, headers=headers, content=values, verify=False).raise_for_status()
    return url
