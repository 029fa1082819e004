"""`AccessControl`: who may reach the streams of an application over HTTP, as the argument `access` of `create_app`."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Final

import msgspec

from ...access.authenticator import Authenticator
from ...protocol.arguments import require, require_each
from .credentials import DEFAULT_COOKIE, check_cookie_name
from .hosts import check_host_name


class AccessControl(msgspec.Struct, frozen=True):
    """Who may reach the streams of an application over HTTP.

    Attributes:
        authenticator: Recognises clients by their tokens, which say what each may do. None lets every client do everything.
        cookie: The name of the cookie in which browsers may send a token.
        allowed_hosts: Names of hosts that requests may name, besides IP addresses and names of this machine. Others are refused with 421.
            None allows every name.
        refuse_foreign_writes: Whether to refuse with 403 the requests of web pages that could change something, except for pages of the
            server's own origin and of origins that the argument `cors` allows. Use this with `allowed_hosts`.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: The name of the cookie or of a host is not valid.
    """

    authenticator: Authenticator | None = None
    cookie: str = DEFAULT_COOKIE
    allowed_hosts: Sequence[str] | None = None
    refuse_foreign_writes: bool = False

    def __post_init__(self) -> None:
        require((Authenticator, NoneType), authenticator=self.authenticator)
        require(str, cookie=self.cookie)
        require(bool, refuse_foreign_writes=self.refuse_foreign_writes)
        check_cookie_name(self.cookie)
        if self.allowed_hosts is not None:
            require_each(str, "names", allowed_hosts=self.allowed_hosts)
            for name in self.allowed_hosts:
                check_host_name(name)


#: The access control of an application that everyone may use.
OPEN_TO_ALL: Final = AccessControl()
