"""Tests of the errors that refuse a JSON body."""

from durable_streams_server.protocol.json.refusals import empty_array, invalid, too_deep, too_many
from durable_streams_server.protocol.limits import MAX_JSON_DEPTH


def test_invalid_json_has_status_400() -> None:
    assert (invalid("x").status, invalid("x").code) == (400, "INVALID_JSON")
    assert too_deep().code == "INVALID_JSON"
    assert str(MAX_JSON_DEPTH) in too_deep().message


def test_empty_array_has_a_code_of_its_own() -> None:
    assert (empty_array().status, empty_array().code) == (400, "EMPTY_ARRAY")


def test_too_many_values_have_status_413_and_name_the_limit() -> None:
    assert (too_many(7).status, too_many(7).code) == (413, "TOO_MANY_MESSAGES")
    assert "7 messages" in too_many(7).message
