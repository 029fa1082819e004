"""Tests of the responses to requests that failed."""

import json
import logging

import pytest

from durable_streams_server.errors import NotFound
from durable_streams_server.http.failures import failure_response
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.names import X_REQUEST_ID

REQUEST = Request("GET", b"/a", b"", {X_REQUEST_ID: b"mine"})


def test_expected_error_becomes_its_response_and_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = failure_response(REQUEST, NotFound("there is no stream here"))
    assert response.status == 404
    assert json.loads(response.body)["error"]["code"] == "STREAM_NOT_FOUND"
    assert response.headers[-1] == (X_REQUEST_ID, b"mine")
    assert caplog.records == []


def test_unexpected_error_tells_the_client_nothing_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ValueError, match="hush") as raised:
        raise ValueError("hush")
    response = failure_response(REQUEST, raised.value)
    assert raised.value.__traceback__ is None
    assert response.status == 500
    assert b"hush" not in response.body
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.ERROR, "a request failed")
    assert record.__dict__["fields"] == {"request_id": "mine"}
    assert "hush" in caplog.text
