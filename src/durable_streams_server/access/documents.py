"""The forms of grants in JSON, which token files and JSON Web Tokens share, and errors that quote nothing of the document.

    "streams": [{"verbs": ["read"], "paths": ["/v1/stream/chat/*"]}]

The message of a msgspec error can contain names and values of the document, and so a secret at the wrong place. `place_of` keeps the
parts that cannot.
"""

import re
from typing import Final

import msgspec

from ..protocol.permissions import Grant, check_grants, grant_of

_PLACE: Final = re.compile(r" - at `(\$[A-Za-z_.\[\]0-9]*)`\Z")
_TYPES: Final = re.compile(r"Expected `[a-z| ]+`, got `[a-z| ]+`")
_MISSING: Final = re.compile(r"Object missing required field `[a-z_]+`")
_LIMIT: Final = re.compile(r"the limit [a-z_]+ must be from 1 to 2\^53 - 1")


class GrantDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant as it is written in JSON. `to_grants` checks it."""

    verbs: list[str]
    paths: list[str]


def to_grants(documents: list[GrantDocument]) -> tuple[Grant, ...]:
    """Returns the grants of a document, after checking them.

    Raises:
        ValueError: a verb is unknown, a path is invalid, or there are too few or too many grants.
    """
    return check_grants(tuple(grant_of(each.verbs, each.paths) for each in documents))


def from_grants(grants: tuple[Grant, ...]) -> list[GrantDocument]:
    """Returns grants in the form in which they are written in JSON."""
    return [GrantDocument(sorted(grant.verbs), list(grant.paths)) for grant in grants]


def place_of(error: msgspec.MsgspecError) -> str:
    """Returns what is wrong with a document and where, without any text of the document."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return "it is not JSON"
    place = _PLACE.search(text)
    known = _TYPES.match(text) or _MISSING.match(text) or _LIMIT.match(text)
    if known is not None:
        what = known[0][0].lower() + known[0][1:].replace("`", "")
    elif "unknown field" in text:
        what = "there is a field that does not belong there"
    else:
        what = "the value is not valid"
    return what if place is None else f"at {place[1]}: {what}"
