"""Where the value of each setting came from."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import click
from click.core import ParameterSource

#: Key of the name of the settings file in the metadata of a context.
FILE: Final = "durable_streams_server.settings_file"


class Source(NamedTuple):
    """Where one value came from.

    Attributes:
        kind: The kind of source.
        label: The name of the setting there, for messages: `--port`, `DURABLE_STREAMS_PORT`, or `'port' in settings.toml`.
        text: The source in words, for a list of settings.
    """

    kind: ParameterSource
    label: str
    text: str


class Sources:
    """Where the value of each setting came from.

    Attributes:
        file: The name of the settings file, or None if there is none.
    """

    def __init__(self, by_name: Mapping[str, Source], file: str | None = None) -> None:
        self._by_name = by_name
        self.file = file

    @classmethod
    def of(cls, ctx: click.Context, settings: Iterable[click.Option]) -> "Sources":
        """Returns the sources of settings that a context has parsed."""
        return cls({each.name: _source(ctx, each) for each in settings}, ctx.meta.get(FILE))

    def kind(self, name: str) -> ParameterSource:
        """Returns the kind of source of a setting."""
        return self._by_name[name].kind

    def is_given(self, name: str) -> bool:
        """Returns whether a flag, a variable or the file gives a setting, even if it gives the default value."""
        return self.kind(name) is not ParameterSource.DEFAULT

    def label(self, name: str) -> str:
        """Returns the name of a setting at its source, for messages. A default is named by its flag."""
        return self._by_name[name].label

    def text(self, name: str) -> str:
        """Returns the source of a setting in words."""
        return self._by_name[name].text

    def refuse_both(self, one: str, other: str) -> None:
        """Refuses two settings that exclude each other, if somebody has set the second one.

        Raises:
            click.UsageError: The second setting is not at its default.
        """
        if self.is_given(other):
            raise click.UsageError(f"{self.label(one)} and {self.label(other)} exclude each other")


def _source(ctx: click.Context, option: click.Option) -> Source:
    kind = ctx.get_parameter_source(option.name) or ParameterSource.DEFAULT
    if kind is ParameterSource.ENVIRONMENT:
        name = str(option.envvar)
        return Source(kind, name, f"environment {name}")
    if kind is ParameterSource.DEFAULT_MAP:
        key, file = option.opts[0].lstrip("-"), ctx.meta[FILE]
        return Source(kind, f"'{key}' in {file}", f"file {file}")
    flag = _flag(option, ctx.params.get(option.name))
    return Source(kind, flag, "default" if kind is ParameterSource.DEFAULT else f"flag {flag}")


def _flag(option: click.Option, value: Any) -> str:
    """Returns the flag that sets an option to a value."""
    return option.secondary_opts[0] if option.secondary_opts and value is False else option.opts[0]
