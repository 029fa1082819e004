"""Tests that scripts in streams never run, whether a tab opens the stream or a page embeds it."""

from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Error, Frame, Page

from tests.browser.host import Host
from tests.process import ServerProcess

#: Marks its document, and tries to create a stream at the origin that it was loaded from.
SCRIPT = """<script>
    document.documentElement.setAttribute("data-ran", "yes")
    fetch("/v1/stream/%s", { method: "PUT" })
</script>"""
HTML = "<!doctype html><title>A stream</title><p>shown</p>" + SCRIPT
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/>%s</svg>'
XHTML = (
    '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>A</title></head><body>%s</body></html>'
)
DOCUMENTS = {
    "text/html": HTML,
    "text/html; charset=utf-8": HTML,
    "text/xml": SVG % SCRIPT,
    "text/xsl": SVG % SCRIPT,
    "application/xml": SVG % SCRIPT,
    "image/svg+xml": SVG % SCRIPT,
    "application/xhtml+xml": XHTML % SCRIPT,
}
READS = ("", "?offset=-1", "?offset=-1&live=long-poll")


def scripts(frame: Frame) -> tuple[int, int]:
    """Returns the number of scripts in a document, and the number of them that have run."""
    return frame.locator("script").count(), frame.locator("[data-ran]").count()


def show(page: Page, url: str) -> bool:
    """Opens a URL in the tab. Returns whether the tab shows it; the browser may download it instead."""
    try:
        page.goto(url)
    except Error as error:
        if "Download is starting" not in error.message:
            raise
        return False
    return True


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_script_in_a_stream_never_runs(
    page: Page, host: Host, server: ServerProcess, kind: str
) -> None:
    made = str(uuid4())
    document = (DOCUMENTS[kind] % made).encode()
    host.documents["/document"] = (kind, document)
    assert show(page, f"{host.origin}/document")
    assert scripts(page.main_frame) == (1, 1)  # outside a stream, the script runs

    url = f"{server.url}/v1/stream/{uuid4()}"
    httpx.put(url, headers={"content-type": kind}, content=document).raise_for_status()
    for query in READS:
        if show(page, url + query):
            assert scripts(page.main_frame) == (1, 0)
            assert page.evaluate("() => self.origin") == "null"
        page.goto(host.origin)
        frame = embed(page, url + query)
        assert frame is None or scripts(frame) == (1, 0)
    assert httpx.head(f"{server.url}/v1/stream/{made}").status_code == 404


def embed(page: Page, url: str) -> Frame | None:
    """Embeds a URL in the page. Returns the frame that shows it, or None if the browser downloads it instead."""
    page.set_content(f"<iframe src='{url}'></iframe>")
    frame = next(frame for frame in page.frames if frame != page.main_frame)
    return frame if frame.url == url else None
