"""Checks the public URL of the server, under which webhook receivers call back."""

import re
from typing import Final
from urllib.parse import urlsplit

# A scheme, a host without a user name, an optional port, and a path of the characters that a URL may contain (RFC 3986).
_PUBLIC_URL: Final = re.compile(
    r"(?i:https?)://(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~:@!$&'()*+,;=%/-]*)?"
)


def check_public_url(url: str) -> str:
    """Returns a public URL without its trailing slashes.

    Raises:
        ValueError: the text is not an absolute http or https URL, or has a user name, a query or a fragment.
    """
    if _PUBLIC_URL.fullmatch(url) is None or not _has_valid_port(url):
        raise ValueError("the public URL is not a URL such as https://streams.example.com")
    return url.rstrip("/")


def _has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False
