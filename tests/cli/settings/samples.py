"""Good and bad values for every setting, made from its type, and the three ways of giving a value."""

import json
from pathlib import Path
from typing import Any

import click

from durable_streams_server.cli.settings.definition import Setting
from durable_streams_server.cli.settings.environment import Environment
from durable_streams_server.cli.settings.loading import SettingsCommand
from durable_streams_server.cli.values import Size

#: Valid values of settings whose type does not tell any.
TEXTS: dict[str, str] = {
    "host": "::1",
    "auth": "tokens:tokens.json",
    "jwt_algorithm": "PS512",
    "auth_cookie": "__Host-token",
    "allowed_host": "streams.example",
    "data_dir": "elsewhere",
    "stream_root": "/streams",
    "cors_origin": "https://app.example",
    "webhook_allow": "hooks.example.com",
    "webhook_deny": "10.0.0.0/8",
    "trusted_proxy": "unix",
}
#: A second valid value of settings that may be repeated, other than the name of a host.
LAST_TEXTS: dict[str, str] = {
    "auth": "jwks:https://login.example/keys",
    "jwt_algorithm": "ES512",
    "trusted_proxy": "10.0.0.0/8",
}
#: Invalid values of such settings. An empty text is invalid for the others.
BAD_TEXTS: dict[str, str] = {
    "auth": "tokens:",
    "jwt_algorithm": "HS256",
    "auth_cookie": "a;b",
    "allowed_host": "streams.example:80",
    "stream_root": "/a/../b",
    "cors_origin": "app.example",
    "public_url": "streams.example.com",
    "webhook_allow": "a b",
    "webhook_deny": "10.0.0.0/99",
}


def good(setting: Setting) -> Any:
    """Returns a valid value that is not the default."""
    kind = setting.type
    if setting.is_flag:
        return not setting.default
    if isinstance(kind, click.Choice):
        return next(choice for choice in kind.choices if choice != setting.default)
    if isinstance(kind, Size):
        return kind.minimum
    if isinstance(kind, click.IntRange):
        return (kind.min or 0) + 1
    if isinstance(kind, click.FloatRange):
        return 7.5
    text = TEXTS.get(setting.name, setting.example)
    last = LAST_TEXTS.get(setting.name, "last.example")
    return (text, last) if setting.multiple else text


def bad(setting: Setting) -> list[str]:
    """Returns invalid values as they would be written after the flag."""
    kind = setting.type
    if setting.is_flag:
        return ["maybe"]
    if isinstance(kind, click.Choice):
        return ["nonsense"]
    if isinstance(kind, Size):
        return ["4q", str(kind.minimum - 1), str(kind.maximum + 1)]
    if isinstance(kind, click.IntRange | click.FloatRange):
        above = [] if kind.max is None else [str(kind.max + 1)]
        no_number = ["nan"] if isinstance(kind, click.FloatRange) else []
        return ["soon", str((kind.min or 0) - 1), *above, *no_number]
    return [BAD_TEXTS.get(setting.name, "")]


def flags(setting: Setting, value: Any) -> list[str]:
    """Returns the arguments that give a setting a value."""
    if value is True:
        return [setting.opts[0]]
    if value is False:
        return [setting.secondary_opts[0]]
    values = value if isinstance(value, tuple) else [value]
    return [word for each in values for word in (setting.opts[0], str(each))]


def variables(setting: Setting, value: Any) -> dict[str, str]:
    """Returns the environment variable that gives a setting a value."""
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return {setting.envvar: text}


def file_of(directory: Path, setting: Setting, value: Any) -> Path:
    """Writes a settings file that gives a setting a value, and returns its path. JSON values are valid in TOML."""
    file = directory / "settings.toml"
    file.write_text(f"{setting.key} = {json.dumps(value)}\n")
    return file


def parsed(
    arguments: list[str], environment: dict[str, str] | None = None
) -> tuple[dict[str, Any], click.Context]:
    """Returns the values that the three sources give, and the context that parsed them. Contradictions are not refused."""
    command = SettingsCommand("settings")
    ctx = command.make_context(None, [*arguments], obj=Environment(environment or {}))
    return ctx.params, ctx
