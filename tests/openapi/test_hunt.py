"""Responses to generated requests are as the OpenAPI document says, and none is a server error."""

from pathlib import Path

import pytest

from tests.openapi.hunt import hunt, serving

SEED = 16
EXAMPLES = 8  # of each operation, valid and invalid ones; `make openapi` sends more


@pytest.mark.parametrize("lane", ["native", "asgi"])
def test_generated_requests_get_documented_responses(lane: str, tmp_path: Path) -> None:
    store = ("--data-dir", str(tmp_path / "data")) if lane == "native" else ("--memory",)
    with serving(SEED, "--http", lane, *store) as target:
        statuses = hunt(target, SEED, EXAMPLES)
    assert len(statuses) > 40
    for label, found in statuses.items():
        assert min(found) < 300, f"no request for {label} succeeded"
        assert max(found) < 500
    assert statuses["PUT /v1/stream/{path}"] >= {201, 400}
    assert statuses["POST /v1/stream/__ds/subscriptions/{id}/ack"] >= {200, 401}
