"""The name that a user meant by a mistyped one."""

from durable_streams_server.cli.settings.nearest import meant


def test_similar_name_is_suggested() -> None:
    assert meant("max_body", ["port", "max-body"]) == "; did you mean 'max-body'?"


def test_nothing_is_suggested_if_no_name_is_similar() -> None:
    assert meant("colour", ["port", "max-body"]) == ""
