"""The parts of an OpenAPI document."""

from durable_streams_server.http.openapi.parts import (
    TEXT,
    Operation,
    head_of,
    header,
    json_response,
    parameter,
    preflight,
    ref,
    response,
)

READ = Operation(
    name="read",
    summary="Reads.",
    access="read",
    responses={"200": json_response("A page.", ref("Page"))},
    errors={404: ("STREAM_NOT_FOUND",)},
)


def test_parameter_in_a_path_is_required() -> None:
    assert parameter("path", "id", TEXT, "The id.")["required"] is True
    assert "required" not in parameter("query", "limit", TEXT, "The limit.")


def test_response_has_only_the_fields_that_it_is_given() -> None:
    assert response("Done.") == {"description": "Done."}
    found = response("Done.", {"ETag": header(TEXT, "The tag.")}, {"text/plain": TEXT})
    assert found["headers"]["ETag"]["required"] is False
    assert found["content"] == {"text/plain": {"schema": TEXT}}


def test_operation_lists_its_responses_and_errors() -> None:
    document = READ.document("streams")
    assert document["operationId"] == "read"
    assert document["security"] == [{}, {"bearer": []}]
    assert {"200", "404", "400", "503"} <= set(document["responses"])
    assert "requestBody" not in document
    assert "parameters" not in document


def test_operation_of_a_worker_needs_the_token_of_its_claim() -> None:
    operation = Operation(name="ack", summary="Acks.", access="worker", responses={})
    assert operation.document("control")["security"] == [{"worker": []}]


def test_head_of_an_operation_has_no_bodies() -> None:
    document = head_of(READ, "readHead").document("streams", has_content=False)
    assert document["operationId"] == "readHead"
    assert "content" not in document["responses"]["200"]
    assert "content" not in document["responses"]["404"]


def test_preflight_is_public() -> None:
    document = preflight("asked").document("streams")
    assert document["security"] == []
    assert document["responses"]["204"]["headers"]["Allow"]["required"] is True
