"""Settings of access control: who recognises clients, and which hosts requests may name."""

import dataclasses
from pathlib import Path
from typing import Final

import click

from ...access.authenticator import Authenticator
from ...access.jwt_rules import (
    ALGORITHMS,
    DEFAULT_LEEWAY,
    LONGEST_LEEWAY,
    USUAL_ALGORITHMS,
    JwtRules,
)
from ...http.gate.credentials import DEFAULT_COOKIE, check_cookie_name
from ...http.gate.hosts import check_host_name
from ..values import Checked
from .definition import Topic, setting
from .sources import Sources

_TOKENS: Final = "tokens:"
_KEYS: Final = "jwks:"


def _check_source(text: str) -> None:
    """Checks one value of `--auth`.

    Raises:
        ValueError: It is neither `tokens:` nor `jwks:` with a place. The message does not quote it, because it may be a token or a
            URL with a password.
    """
    for kind in (_TOKENS, _KEYS):
        if text.startswith(kind) and len(text) > len(kind):
            return
    raise ValueError("the value is neither tokens:FILE nor jwks:FILE nor jwks:URL")


def _check_text(text: str) -> None:
    if not text:
        raise ValueError("the value is empty")


def _check_algorithm(text: str) -> None:
    if text not in ALGORITHMS:
        raise ValueError(f"{text!r} is not one of {', '.join(ALGORITHMS)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access(Topic):
    """The sources of tokens, which say who may do what, and the hosts that requests may name."""

    auth: tuple[str, ...] = setting(
        (),
        "Let only clients with a token in: 'tokens:FILE' has static tokens, and 'jwks:FILE' or 'jwks:URL' the keys of an identity "
        "provider. May be given once for each of the two kinds. Without it, every client may do everything.",
        kind=Checked("source", _check_source),
        metavar="tokens:FILE|jwks:FILE|jwks:URL",
    )
    no_auth: bool = setting(
        False,
        "Let everybody who reaches the server do everything. On an address that other machines reach, give either this or --auth.",
    )
    jwt_issuer: str | None = setting(
        None,
        "Issuer ('iss') that JSON Web Tokens must have. Needed with 'jwks:'.",
        kind=Checked("text", _check_text),
        example="https://login.example",
    )
    jwt_audience: str | None = setting(
        None,
        "Audience ('aud') that JSON Web Tokens must have. Needed with 'jwks:'.",
        kind=Checked("text", _check_text),
        example="streams",
    )
    jwt_algorithm: tuple[str, ...] = setting(
        USUAL_ALGORITHMS,
        "Algorithm with which JSON Web Tokens may be signed; may be repeated.",
        kind=Checked("algorithm", _check_algorithm),
        metavar="ALGORITHM",
    )
    jwt_leeway: int = setting(
        DEFAULT_LEEWAY,
        "Seconds by which the clocks of the identity provider and the server may differ.",
        kind=click.IntRange(0, LONGEST_LEEWAY),
        metavar="SECONDS",
    )
    auth_cookie: str = setting(
        DEFAULT_COOKIE,
        "Name of the cookie in which browsers may send a token.",
        kind=Checked("name", check_cookie_name),
        metavar="NAME",
    )
    allowed_host: tuple[str, ...] = setting(
        (),
        "Further name of a host under which clients may reach a server without access control; may be repeated. A server on "
        "loopback answers only to IP addresses, to names of this machine and to these names.",
        kind=Checked("host", check_host_name),
        metavar="NAME",
    )

    def authenticator(self) -> Authenticator | None:
        """Returns the authenticator, or None if every client may do everything. Reads the files.

        Raises:
            ValueError: A file cannot be read or is broken. The message names it.
        """
        tokens, keys = self._place(_TOKENS), self._place(_KEYS)
        if tokens is None and keys is None:
            return None
        rules = None
        if keys is not None and self.jwt_issuer is not None and self.jwt_audience is not None:
            rules = JwtRules(
                self.jwt_issuer, self.jwt_audience, self.jwt_algorithm, self.jwt_leeway
            )
        return Authenticator(
            tokens=None if tokens is None else Path(tokens), keys=keys, rules=rules
        )

    def check(self, sources: Sources) -> None:
        """Refuses a second source of the same kind, and keys without the rules that their tokens must fulfil.

        Raises:
            click.UsageError: Settings contradict each other, or one of them is missing.
        """
        for kind in (_TOKENS, _KEYS):
            if sum(each.startswith(kind) for each in self.auth) > 1:
                raise click.UsageError(f"{sources.label('auth')} has two sources '{kind}…'")
        has_keys = self._place(_KEYS) is not None
        for name in ("jwt_issuer", "jwt_audience"):
            if has_keys != bool(getattr(self, name)):
                raise click.UsageError(
                    f"{sources.label('auth')} with '{_KEYS}…' and {sources.label(name)} go together"
                )

    def _place(self, kind: str) -> str | None:
        """Returns the file or the URL of a kind of source, or None if there is none."""
        for each in self.auth:
            if each.startswith(kind):
                return each.removeprefix(kind)
        return None
