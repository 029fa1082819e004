"""The engine has every member that live reads use."""

from durable_streams_server.streams.live_reads import LiveReads
from tests.streams.engines import Bench

METHODS = ("subscribe", "unsubscribe", "is_ahead", "next_cursor", "retry")


def test_engine_implements_every_member_of_live_reads_protocol() -> None:
    engine: LiveReads = Bench().engine  # mypy checks the types
    members = {*LiveReads.__annotations__, *METHODS}
    assert {name for name in dir(LiveReads) if not name.startswith("_")} <= members
    assert all(hasattr(engine, name) for name in members)
