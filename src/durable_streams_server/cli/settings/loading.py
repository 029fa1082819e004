"""Loads the settings: defaults, then the settings file, then environment variables, then flags. Later ones override earlier ones.

A command of class `SettingsCommand` gets them as an argument. `load_settings` loads them without a command, as often as needed.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from .definition import Setting
from .environment import Environment, environment_of
from .file import config_option
from .settings import ALL, OPTIONS, Settings
from .sources import Sources

#: Key of the arguments of a command in the metadata of its context.
_ARGUMENTS: Final = "durable_streams_server.arguments"


class BadSettings(click.UsageError):
    """The settings cannot be used. The message is one line, which names the bad setting and where it was set."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Settings, and where each came from.

    Attributes:
        settings: The settings, without contradictions.
        sources: Where each value came from.
        arguments: The flags, from which `load_settings` can load the settings again.
    """

    settings: Settings
    sources: Sources
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Reloaded:
    """What a running server does with settings that were loaded again.

    Attributes:
        loaded: The settings from now on. Those that only a start can change keep their values.
        changed: The keys of the settings with a new value.
        needs_restart: The keys of the settings that have a new value in the file, but keep their old one until the next start.
    """

    loaded: Loaded
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


class SettingsCommand(click.Command):
    """A command that accepts all settings as flags. Its function is called with a `Loaded`."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        own = attributes.pop("params", None) or []
        super().__init__(name, params=[*own, config_option(), *ALL], **attributes)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses flags. Refuses environment variables that set nothing."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            known = {str(option.envvar) for option in self.params if option.envvar}
            environment_of(ctx).refuse_unknown(known)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Calls the function of the command with the settings."""
        assert self.callback is not None
        return ctx.invoke(self.callback, loaded_from(ctx))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the settings into the help, grouped by topic, after the other options."""
        others = [each for each in self.get_params(ctx) if each not in ALL]
        for title, options in {"Options": others, **OPTIONS}.items():
            records = [option.get_help_record(ctx) for option in options]
            with formatter.section(title):
                formatter.write_dl([record for record in records if record is not None])


def loaded_from(ctx: click.Context) -> Loaded:
    """Returns the settings that a context has parsed.

    Raises:
        click.UsageError: Settings contradict each other.
    """
    settings = Settings(**{option.name: ctx.params[option.name] for option in ALL})
    sources = Sources.of(ctx, ALL)
    settings.check(sources)
    return Loaded(settings, sources, ctx.meta[_ARGUMENTS])


def load_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Loaded:
    """Loads settings without running a command.

    Args:
        arguments: The flags of `serve`. `--config` or an environment variable names the settings file.
        environment: The environment variables.

    Raises:
        BadSettings: A source cannot be read or has a bad value, or settings contradict each other.
    """
    command = SettingsCommand("settings", add_help_option=False)
    try:
        with command.make_context(None, [*arguments], obj=Environment(environment)) as ctx:
            return loaded_from(ctx)
    except click.UsageError as error:
        raise BadSettings(error.format_message()) from None


def reload_settings(
    running: Loaded, environment: Mapping[str, str] = os.environ, options: Sequence[Setting] = ALL
) -> Reloaded:
    """Loads the settings of a running server again, with the same flags, and takes over what a running server can change.

    Args:
        running: The settings of the server.
        environment: The environment variables.
        options: The settings that exist.

    Raises:
        BadSettings: The new settings cannot be used, by themselves or together with those that only a start can change.
    """
    new = load_settings(running.arguments, environment)
    differing = [
        option
        for option in options
        if getattr(new.settings, option.name) != getattr(running.settings, option.name)
    ]
    changed = [option for option in differing if option.reloadable]
    settings = dataclasses.replace(
        running.settings, **{option.name: getattr(new.settings, option.name) for option in changed}
    )
    try:
        settings.check(new.sources)
    except click.UsageError as error:
        raise BadSettings(f"{error.message}; some changes need a restart") from None
    return Reloaded(
        Loaded(settings, new.sources, running.arguments),
        tuple(option.key for option in changed),
        tuple(option.key for option in differing if not option.reloadable),
    )
