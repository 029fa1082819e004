"""Tests of grants in JSON, and that errors about a document quote nothing of it."""

import msgspec
import pytest

from durable_streams_server.access.documents import (
    GrantDocument,
    from_grants,
    place_of,
    to_grants,
)
from durable_streams_server.protocol.permissions import TokenLimits, grant_of

SECRET = "hush-this-is-secret"


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """A document with everything that an error can be about."""

    streams: list[GrantDocument] = []
    limits: TokenLimits | None = None
    named: dict[str, int] = {}


def test_grants_survive_the_way_to_json_and_back() -> None:
    grants = (grant_of(["read", "append"], ["/a", "/b/*"]), grant_of(["admin"], ["/**"]))
    data = msgspec.json.encode(from_grants(grants))
    assert to_grants(msgspec.json.decode(data, type=list[GrantDocument])) == grants


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([], "a token needs at least one grant"),
        ([GrantDocument([SECRET], ["/a"])], "there is no such verb"),
        ([GrantDocument(["read"], [f"//{SECRET}"])], "the pattern"),
        ([GrantDocument(["read"], [])], "at least one verb and one path"),
    ],
)
def test_bad_grant_is_refused_without_quoting_it(documents: list[GrantDocument], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        to_grants(documents)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is not JSON"),
        (f"{{{SECRET}", "it is not JSON"),
        ("[]", "expected object, got array"),
        ('{"streams": 1}', "at $.streams: expected array, got int"),
        (f'{{"streams": ["{SECRET}"]}}', "at $.streams[0]: expected object, got str"),
        (
            '{"streams": [{"verbs": [], "paths": []}, {"paths": []}]}',
            "at $.streams[1]: object missing required field verbs",
        ),
        (f'{{"{SECRET}": 1}}', "there is a field that does not belong there"),
        (
            f'{{"streams": [{{"{SECRET}": 1}}]}}',
            "at $.streams[0]: there is a field that does not belong there",
        ),
        (
            '{"limits": {"subscriptions": 0}}',
            "at $.limits: the limit subscriptions must be from 1 to 2^53 - 1",
        ),
        (f'{{"named": {{"{SECRET}": "x"}}}}', "at $.named[...]: expected int, got str"),
    ],
)
def test_error_names_the_place_and_quotes_nothing(text: str, said: str) -> None:
    with pytest.raises(msgspec.MsgspecError) as caught:
        msgspec.json.decode(text, type=Document)
    assert place_of(caught.value) == said


def test_unknown_error_becomes_a_general_one() -> None:
    error = msgspec.ValidationError(f"Invalid value {SECRET} - at `$.streams`")
    assert place_of(error) == "at $.streams: the value is not valid"
