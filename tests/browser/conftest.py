"""One headless Chromium for all tests, and what they read."""

import shutil
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.host import Host, hosting
from tests.process import ServerProcess, serve

_RESOLVER = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
PATIENCE = 15_000  # milliseconds that anything in the browser may take


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The Chromium that Debian installs; Playwright's own is never downloaded."""
    path = shutil.which("chromium")
    assert path is not None, "chromium is not installed: `make test` installs it"
    with sync_playwright() as playwright:
        # Root has no sandbox, a container's /dev/shm is small, and nothing leaves this machine.
        flags = ["--no-sandbox", "--disable-dev-shm-usage", f"--host-resolver-rules={_RESOLVER}"]
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile of its own: its cache, cookies and connections."""
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
    """Serves the pages, from another origin than the streams'."""
    with hosting() as running:
        yield running


@pytest.fixture(scope="package")
def tab(browser: Browser) -> Iterator[Page]:
    """A tab for all tests that need no profile of their own: a new one takes half a second."""
    profile = new_context(browser)
    yield profile.new_page()
    profile.close()


@pytest.fixture
def page(tab: Page, host: Host) -> Page:
    """That tab, without cookies, with a page of the host."""
    tab.context.clear_cookies()
    tab.goto(host.origin)
    return tab


@pytest.fixture(scope="package")
def server() -> Iterator[ServerProcess]:
    """A server as it is by default. Tests that stop it run one of their own."""
    with serve("--memory") as running:
        yield running


@pytest.fixture
def url(server: ServerProcess) -> str:
    """A fresh stream of JSON values, which holds the value 1."""
    return new_stream(server.url)


def new_stream(base: str, values: str = "[1]") -> str:
    """Creates a stream of JSON values at a path of its own, and returns its URL."""
    url = f"{base}/v1/stream/{uuid4()}"
    headers = {"content-type": "application/json"}
    httpx.put(url, headers=headers, content=values, verify=False).raise_for_status()
    return url
