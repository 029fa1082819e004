"""Parses the values of `--auth`, which say where tokens and keys are.

tokens:/etc/durable-streams/tokens.json
jwks:https://login.example/.well-known/jwks.json
jwks:/etc/durable-streams/jwks.json
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .key_sources import check_key_url


class Places(NamedTuple):
    """Where tokens and keys are, as `Authenticator` takes it.

    Attributes:
        tokens: the file of static tokens, or None.
        keys: the file or the URL of a key set, or None.
    """

    tokens: Path | None = None
    keys: str | None = None


def parse_places(values: Iterable[str]) -> Places:
    """Returns the places in the values of `--auth`.

    Raises:
        ValueError: a value is malformed, or there are two of one kind. The message does not quote URLs.
    """
    places = Places()
    for value in values:
        kind, _, place = value.partition(":")
        if kind not in ("tokens", "jwks") or not place:
            raise ValueError("a source of tokens is tokens:FILE, jwks:FILE or jwks:URL")
        if kind == "tokens":
            if places.tokens is not None:
                raise ValueError("only one file of tokens can be used")
            places = places._replace(tokens=Path(place))
        else:
            if places.keys is not None:
                raise ValueError("only one key set can be used")
            if is_url(place):
                check_key_url(place)
            places = places._replace(keys=place)
    return places


def is_url(place: str) -> bool:
    """Returns whether the place of a key set is a URL and no file."""
    return "://" in place
