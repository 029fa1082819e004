"""`Credentials`: where a request may carry its token, and when a cookie counts."""

import pytest

from durable_streams_server.errors import Unauthorized
from durable_streams_server.http.gate.credentials import Credential, Credentials
from durable_streams_server.http.request import Request, index_headers

APP = "https://app.example"
FIND = Credentials(origins=[APP, "*"]).find
COOKIE = ("cookie", "theme=dark; durable_streams_token=secret")


def asking(
    *headers: tuple[str, str], method: str = "GET", query: bytes = b"", scheme: str = "http"
) -> Request:
    """Returns a request with these headers."""
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    found, repeated, size = index_headers([(b"host", b"streams.example"), *pairs])
    return Request(method, b"/v1/stream/a", query, found, repeated, size, scheme)


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer secret", "secret"),
        ("bearer secret", "secret"),
        ("BEARER   secret ", "secret"),
        ("Bearer ", ""),
        ("Bearer", ""),
    ],
)
def test_token_in_authorization_is_found(value: str, token: str) -> None:
    assert FIND(asking(("authorization", value))) == Credential(token)


def test_other_schemes_of_authorization_are_ignored() -> None:
    basic = ("authorization", "Basic c2VjcmV0")
    assert FIND(asking(basic)) is None
    assert FIND(asking(basic, COOKIE)) == Credential("secret")


def test_two_authorization_headers_are_refused() -> None:
    twice = asking(("authorization", "Bearer a"), ("authorization", "Bearer b"))
    with pytest.raises(Unauthorized):
        FIND(twice)


def test_header_counts_before_cookie_and_cookie_before_signature() -> None:
    query = b"signature=x"
    header = ("authorization", "Bearer a")
    assert FIND(asking(header, COOKIE, query=query)) == Credential("a")
    assert FIND(asking(COOKIE, query=query)) == Credential("secret")
    assert FIND(asking(query=query)) == Credential("", query)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_signature_counts_only_for_reads(method: str) -> None:
    assert FIND(asking(method=method, query=b"signature=x")) is None


@pytest.mark.parametrize(
    ("cookie", "found"),
    [
        ("durable_streams_token=secret", "secret"),
        ('a=b;durable_streams_token="secret"', "secret"),
        ("durable_streams_token=secret; durable_streams_token=secret", "secret"),
        ("durable_streams_token=", ""),
        ("durable_streams_token", None),
        ("Durable_Streams_Token=secret", None),
        ("xdurable_streams_token=secret", None),
        ("", None),
    ],
)
def test_cookie_is_found_by_its_name(cookie: str, found: str | None) -> None:
    expected = None if found is None else Credential(found)
    assert FIND(asking(("cookie", cookie))) == expected


def test_two_different_cookies_are_refused() -> None:
    first = ("cookie", "durable_streams_token=a")
    for second in ("durable_streams_token=b", "x=y; durable_streams_token=b"):
        with pytest.raises(Unauthorized):
            FIND(asking(first, ("cookie", second)))


def test_cookie_may_have_another_name() -> None:
    find = Credentials("__Host-streams").find
    assert find(asking(("cookie", "__Host-streams=secret"))) == Credential("secret")
    assert find(asking(COOKIE)) is None


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "é"])
def test_name_of_cookie_must_be_plain(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a cookie"):
        Credentials(name)


OWN = "http://streams.example"
#: For each pair of Sec-Fetch-Site and Origin: whether the cookie counts for a read and for a write.
COUNTS = {
    (None, None): (True, False),
    (None, OWN): (True, True),
    (None, "http://STREAMS.example"): (True, True),
    (None, "https://streams.example"): (False, False),
    (None, "http://streams.example:81"): (False, False),
    (None, APP): (True, True),
    (None, "https://evil.example"): (False, False),
    (None, "null"): (False, False),
    ("same-origin", None): (True, True),
    ("same-origin", OWN): (True, True),
    ("none", None): (True, False),
    ("same-site", None): (False, False),
    ("same-site", APP): (True, True),
    ("same-site", "https://sister.example"): (False, False),
    ("cross-site", None): (False, False),
    ("cross-site", APP): (True, True),
    ("cross-site", OWN): (False, False),
    ("cross-site", "https://evil.example"): (False, False),
    ("anything", None): (False, False),
}


@pytest.mark.parametrize("case", COUNTS, ids=str)
def test_cookie_counts_only_for_pages_that_may_use_it(case: tuple[str | None, str | None]) -> None:
    site, origin = case
    headers = [COOKIE]
    if site is not None:
        headers.append(("sec-fetch-site", site))
    if origin is not None:
        headers.append(("origin", origin))
    for methods, counts in zip(
        (("GET", "HEAD"), ("PUT", "POST", "DELETE")), COUNTS[case], strict=True
    ):
        for method in methods:
            found = FIND(asking(*headers, method=method))
            assert found == (Credential("secret") if counts else None), method


def test_own_origin_has_the_scheme_of_the_client() -> None:
    own = asking(COOKIE, ("origin", "https://streams.example"), method="PUT", scheme="https")
    assert FIND(own) == Credential("secret")


def test_text_of_credential_never_shows_it() -> None:
    shown = f"{Credential('secret')!r} {Credential('', b'signature=secret')}"
    assert "secret" not in shown
    assert Credential("secret", b"secret").__rich_repr__() == []
