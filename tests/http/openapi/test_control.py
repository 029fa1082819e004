"""The descriptions of the control operations."""

from durable_streams_server.http.openapi import control
from durable_streams_server.http.openapi.document import build


def test_operations_with_a_body_describe_it_as_json() -> None:
    for (_, method), operation in control.OPERATIONS.items():
        has_body = method in ("PUT", "POST")
        assert (operation.body is not None) == has_body
        assert list(operation.body or {"application/json": {}}) == ["application/json"]


def test_every_schema_that_is_referred_to_exists() -> None:
    document = build("/v1/stream", "")
    referred: set[str] = set()

    def look(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                referred.add(value["$ref"])
            for each in value.values():
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    look(document)
    existing = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses")
        for name in document["components"][kind]
    }
    assert len(referred) > 10
    assert referred <= existing
