"""Servers with access control for tests: a token file, an identity provider, and one caller for both lanes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from durable_streams_server import (
    AccessControl,
    Authenticator,
    DurableStreamsApp,
    StreamStore,
    create_app,
)
from durable_streams_server.access import token_file
from durable_streams_server.access.signed_urls import sign_url
from durable_streams_server.access.static_tokens import StaticToken, create_text, parse_token
from durable_streams_server.protocol.permissions import TokenLimits, parse_grant
from durable_streams_server.protocol.units import SECOND
from tests.access.provider import NOW, NOW_SECONDS, RULES, usual_key_set
from tests.http.lanes import Caller

APP: Final = "https://app.example"
EVERYTHING: Final = "create,append,read,close,delete,fork,subscribe,admin:/**"


def empty_token_file(folder: Path) -> Path:
    """Returns the path of a token file without tokens."""
    path = folder / "tokens.json"
    path.write_text(json.dumps({"version": 1, "tokens": []}))
    path.chmod(0o600)
    return path


class Guarded:
    """An application with access control, whose clock stands still until a test moves it.

    Args:
        folder: where the token file and the key set are.
        native: whether requests come over the native lane.
        settings: further arguments of `create_app`.
    """

    def __init__(self, folder: Path, native: bool, **settings: Any) -> None:
        self.now = NOW
        self.path = empty_token_file(folder)
        keys = folder / "keys.json"
        keys.write_bytes(usual_key_set())
        self.authenticator = Authenticator(tokens=self.path, keys=str(keys), rules=RULES)
        self.store = StreamStore()
        settings.setdefault("cors", [APP])
        self.app: DurableStreamsApp = create_app(
            store=self.store,
            access=AccessControl(self.authenticator),
            clock=lambda: self.now,
            **settings,
        )
        self._native = native

    def token(self, *grants: str, seconds: float | None = None, **limits: int) -> str:
        """Returns a new static token, which the server knows at once.

        Args:
            grants: what it may do, such as `read:/v1/stream/*`.
            seconds: the seconds after which it expires.
            limits: the limits of the token.
        """
        text = create_text()
        presented = parse_token(text)
        assert presented is not None
        expires = None if seconds is None else self.now + round(seconds * SECOND)
        token = StaticToken(
            presented.id,
            presented.hash,
            tuple(map(parse_grant, grants)),
            created_at=self.now,
            expires_at=expires,
            limits=TokenLimits(**limits),
        )
        token_file.add(self.path, token)
        self.authenticator.reload()
        return text

    def revoke(self, text: str) -> None:
        """Revokes a static token."""
        assert token_file.remove(self.path, text.split("_")[1])
        self.authenticator.reload()

    def caller(self) -> Caller:
        """Returns a caller. It must be called on the running event loop."""
        self.app.begin()
        return Caller(self.app, self._native)


def bearer(token: str) -> dict[str, str]:
    """Returns the header with a token."""
    return {"authorization": f"Bearer {token}"}


def cookie(token: str, **headers: str) -> dict[str, str]:
    """Returns the header with a token in a cookie, and further headers, with underscores for hyphens."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"cookie": f"theme=dark; durable_streams_token={token}", **more}


def signed(url: str, token: str, seconds: int = 60) -> str:
    """Returns the path and the query of a signed URL."""
    return sign_url(f"http://h{url}", token, NOW_SECONDS + seconds).removeprefix("http://h")
