"""The settings file: TOML with one key for each setting, at the top level. Its values become defaults of the flags."""

import datetime
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from ..output import reason, shown
from ..values import FILE as FILE_NAME
from ..values import Size
from .definition import Setting
from .environment import EnvironmentOption, variable_of
from .nearest import meant
from .sources import FILE

#: How messages call the types of TOML.
_NAMES: Final = (
    (bool, "a boolean"),
    (int, "a whole number"),
    (float, "a number with a fraction"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a table"),
    ((datetime.date, datetime.time), "a date or time"),
)


def config_option() -> click.Option:
    """Returns the option `--config`, which reads the settings file before the other options are parsed."""
    return EnvironmentOption(
        ["--config"],
        type=FILE_NAME,
        envvar=variable_of("config"),
        is_eager=True,
        expose_value=False,
        callback=_use_file,
        help="Settings file in TOML. Environment variables and flags override it.",
    )


def _use_file(ctx: click.Context, _: click.Parameter, file: str | None) -> None:
    """Makes the values of a settings file the defaults of a command, if a file is given."""
    if file is not None and not ctx.resilient_parsing:
        settings = [each for each in ctx.command.params if isinstance(each, Setting)]
        ctx.meta[FILE] = shown(file)
        ctx.default_map = read_file(file, settings)


def read_file(file: str, settings: Sequence[Setting]) -> dict[str, object]:
    """Returns the values in a settings file, by the names of their attributes. Their types are right, but the values are not checked.

    Raises:
        click.UsageError: The file cannot be read or is not TOML, or it has an unknown key or a value of the wrong type.
    """
    where, by_key = shown(file), {each.key: each for each in settings}
    values = {}
    for key, value in _parse(file).items():
        known = by_key.get(key)
        if known is None:
            raise click.UsageError(_unknown(shown(key), value, where, by_key))
        _refuse_other_type(known, value, where)
        values[known.name] = value
    return values


def _parse(file: str) -> dict[str, Any]:
    try:
        with open(
            file, encoding="utf-8-sig", newline=""
        ) as opened:  # some editors begin a file with a BOM
            return tomllib.loads(opened.read())
    except OSError as error:
        raise click.UsageError(f"cannot read the settings file: {reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{shown(file)} is not TOML: {reason(error)}") from None


def _unknown(key: str, value: object, where: str, known: Mapping[str, Setting]) -> str:
    """Returns the message about a key that is no setting."""
    if isinstance(value, dict):
        return f"{where} has a table [{key}], but every setting is a key at the top level"
    return f"there is no setting {key!r}, which {where} sets{meant(key, known)}"


def _refuse_other_type(setting: Setting, value: object, where: str) -> None:
    """Refuses a value whose TOML type is not that of its setting.

    Raises:
        click.UsageError: The type is wrong.
    """
    if setting.multiple:
        is_right = isinstance(value, list) and all(isinstance(each, str) for each in value)
        wanted = "a list of texts"
    else:
        accepted, wanted = _types_of(setting)
        # A boolean is an integer in Python, but not in TOML.
        is_right = isinstance(value, accepted) and isinstance(value, bool) == setting.is_flag
    if not is_right:
        other = next(name for kind, name in _NAMES if isinstance(value, kind))
        if other == wanted.partition(" of ")[0]:
            other = "a list of something else"
        raise click.UsageError(f"{setting.key!r} in {where} must be {wanted}, not {other}")


def _types_of(setting: Setting) -> tuple[tuple[type, ...], str]:
    """Returns the Python types of the values that a setting accepts in a file, and their names."""
    if setting.is_flag:
        return (bool,), "true or false"
    if isinstance(setting.type, Size):
        return (int, str), 'a number of bytes or a text such as "64m"'
    if isinstance(setting.type, click.types.FloatParamType):
        return (int, float), "a number"
    if isinstance(setting.type, click.types.IntParamType):
        return (int,), "a whole number"
    return (str,), "a text"
