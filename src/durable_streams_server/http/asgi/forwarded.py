"""Sets the client and the scheme of an ASGI scope from the headers of a trusted proxy.

uvicorn could do this too. But it does not know `Forwarded`, and it believes the addresses that any proxy on this machine names.
"""

from collections.abc import Sequence
from typing import Any

from ...errors import Header
from ..proxies import FORWARDING_HEADERS, TrustedProxies
from ..request import index_headers


def describe_client(scope: Any, headers: Sequence[Header], proxies: TrustedProxies) -> None:
    """Sets the client and the scheme of a scope as a trusted proxy has named them.

    Args:
        scope: The scope of the request.
        headers: The headers of the request, with names in lower case.
        proxies: The trusted proxies, one of which is the peer.
    """
    said = [pair for pair in headers if pair[0] in FORWARDING_HEADERS]
    if not said:
        return
    client = proxies.client_of(index_headers(said)[0])
    if client.address is not None:
        scope["client"] = (client.address, 0)
    if client.scheme is not None:
        scope["scheme"] = client.scheme
