"""The error responses of operations."""

from durable_streams_server.http.openapi.errors import COMMON, error_responses, shared_responses


def test_response_with_only_the_common_codes_is_a_reference() -> None:
    found = error_responses(COMMON, {})
    assert found["414"] == {"$ref": "#/components/responses/Error414"}
    assert set(found) == {str(status) for status in COMMON}
    found = error_responses(COMMON, {}, has_content=False)
    assert found["414"] == {"$ref": "#/components/responses/Error414WithoutBody"}
    assert {"Error414", "Error414WithoutBody"} <= set(shared_responses())


def test_response_with_further_codes_lists_all_of_them() -> None:
    found = error_responses({400: ("INVALID_PATH",)}, {400: ("EMPTY_BODY",), 409: ("FENCED",)})
    assert "`INVALID_PATH`, `EMPTY_BODY`" in found["400"]["description"]
    schema = found["400"]["content"]["application/json"]["schema"]
    code = schema["allOf"][1]["properties"]["error"]["properties"]["code"]
    assert code == {"enum": ["INVALID_PATH", "EMPTY_BODY"]}
    assert "FENCED" in found["409"]["description"]


def test_response_without_a_body_has_no_content() -> None:
    found = error_responses({}, {404: ("STREAM_NOT_FOUND",)}, has_content=False)
    assert "content" not in found["404"]
