"""`AppSettings`: every argument of `create_app` reaches the part of the server that it configures."""

import inspect
import typing
from pathlib import Path

import pytest

from durable_streams_server import AccessControl, Authenticator, CursorOptions, create_app
from durable_streams_server.http.settings import AppSettings
from durable_streams_server.streams.clock import system_clock
from tests.http.gate.tokens import empty_token_file


def settings(**changed: typing.Any) -> AppSettings:
    """Returns the settings that `create_app` has by default, some of them changed."""
    parameters = inspect.signature(create_app).parameters.values()
    return AppSettings(**{each.name: each.default for each in parameters} | changed)


def test_app_settings_has_a_field_for_each_argument_of_create_app() -> None:
    arguments = typing.get_type_hints(create_app)
    del arguments["return"]
    assert typing.get_type_hints(AppSettings) == arguments
    assert settings().clock is system_clock


def test_engine_options_contain_the_settings_of_reads() -> None:
    given = {
        "page_size": 2048,
        "long_poll_timeout": 1.5,
        "sse_max_age": 2.5,
        "stream_root": "/s",
        "max_unsent": 4096,
    }
    cursor = CursorOptions(interval_seconds=7)
    options = settings(**given, cursor_options=cursor).engine_options()
    assert {name: getattr(options, name) for name in given} == given
    assert options.cursor is cursor


def test_handler_options_contain_the_settings_of_requests() -> None:
    given = {
        "stream_root": "/s",
        "shared_cache_age": 7,
        "max_body": 10,
        "max_in_flight": 20,
        "compression": False,
        "body_timeout": 1.5,
        "read_only": True,
    }
    options = settings(**given).handler_options()
    assert {name: getattr(options, name) for name in given} == given


@pytest.mark.parametrize(
    ("cors", "origins"), [(True, ("*",)), (False, ()), (["https://a"], ("https://a",)), ([], ())]
)
def test_cors_setting_becomes_a_tuple_of_origins(
    cors: bool | list[str], origins: tuple[str, ...]
) -> None:
    assert settings(cors=cors).handler_options().cors_origins == origins


def test_guard_makes_responses_private_and_tokens_make_them_secret(tmp_path: Path) -> None:
    async def guard(*_: object) -> bool:
        return True

    access = AccessControl(Authenticator(tokens=empty_token_file(tmp_path)))
    assert settings().handler_options().privacy == "shared"
    assert settings(guard=guard).handler_options().privacy == "private"
    assert settings(access=access).handler_options().privacy == "secret"
    assert settings(access=access, guard=guard).handler_options().privacy == "secret"


@pytest.mark.parametrize(
    "wrong",
    [
        {"store": 5},
        {"cors": "https://a"},
        {"clock": 5},
        {"max_body": True},
        {"guard": 5},
        {"access": "tokens.json"},
    ],
)
def test_error_about_a_setting_of_the_wrong_type_names_the_setting(
    wrong: dict[str, object],
) -> None:
    (name,) = wrong
    with pytest.raises(TypeError, match=f"^{name} must be "):
        settings(**wrong)
