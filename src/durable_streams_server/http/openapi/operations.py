"""Describes the operations of operators' tools, outside the stream root."""

from typing import Final

from ...protocol.names import HEALTH_PATH, METRICS_PATH, READY_PATH
from .parts import TEXT, Operation, json_response, ref, response

#: The GET operation of each path.
OPERATIONS: Final = {
    HEALTH_PATH: Operation(
        name="getHealth",
        summary="Shows that the event loop runs.",
        access="public",
        responses={"200": json_response("The server is alive.", ref("Status"))},
    ),
    METRICS_PATH: Operation(
        name="getMetrics",
        summary="Returns the counters of the server for Prometheus.",
        access="admin",
        responses={
            "200": response(
                "The metrics.",
                None,
                {"text/plain": TEXT, "application/openmetrics-text": TEXT},
            )
        },
        errors={404: ("RESERVED_PATH",)},
    ),
    READY_PATH: Operation(
        name="getReadiness",
        summary="Shows that the server can take writes, by making one durable.",
        access="public",
        responses={"200": json_response("The server is ready.", ref("Status"))},
        errors={503: ("NOT_READY",)},
    ),
}
SCHEMAS: Final = {
    "Status": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"enum": ["alive", "ready"]}},
    }
}
