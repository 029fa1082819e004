"""The routes of the server itself: which methods a preflight of each lists."""

import pytest

from tests.http.control_site import CONTROL, PUBLIC, ROOT, S, Site

EVERY = "GET, HEAD, PUT, POST, DELETE, OPTIONS"


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("/healthz", "GET, HEAD, OPTIONS"),
        (f"{CONTROL}/info", "GET, HEAD, OPTIONS"),
        (S, "PUT, GET, DELETE, HEAD, OPTIONS"),
        (f"{S}/claim", "POST, OPTIONS"),
        (f"{S}/streams/a/b", "DELETE, OPTIONS"),
        (f"{CONTROL}/nothing", "OPTIONS"),
        (f"{ROOT}/a", EVERY),
        (CONTROL, EVERY),
        ("/v1/%ff", EVERY),
        ("*", EVERY),
    ],
)
async def test_preflight_lists_the_methods_of_its_path(url: str, allow: str) -> None:
    site = Site(public_url=PUBLIC, cors=True)
    answer = await site.ask("OPTIONS", url, headers={"origin": "https://a.example"})
    assert (answer.status, answer.headers["allow"]) == (204, allow)
    assert answer.headers["access-control-allow-methods"] == EVERY
    site.app.begin_shutdown()
    assert (await site.ask("OPTIONS", url)).headers["allow"] == allow


async def test_methods_in_allow_are_those_that_are_not_refused_with_405() -> None:
    site = Site(public_url=PUBLIC)
    for url in ("/healthz", "/readyz", S, f"{S}/claim", f"{S}/streams/a", f"{CONTROL}/streams"):
        allowed = (await site.ask("OPTIONS", url)).headers["allow"].split(", ")
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"):
            answer = await site.ask(method, url)
            assert (answer.status != 405) == (method in allowed)


async def test_large_body_is_refused_by_its_head_on_every_route_of_the_server() -> None:
    site = Site()
    coded = {"content-encoding": "gzip", "content-length": str(1 << 20)}
    for url in (S, f"{CONTROL}/info"):
        answer = await site.ask("PUT", url, headers=coded)
        assert (answer.status, answer.error["code"]) == (415, "UNSUPPORTED_CONTENT_ENCODING")
