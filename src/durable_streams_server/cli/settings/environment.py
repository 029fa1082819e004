"""The environment variables of settings: `DURABLE_STREAMS_` and the name of the setting in upper case."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import click

from .nearest import meant

PREFIX: Final = "DURABLE_STREAMS_"
#: What separates the values of a setting that may be repeated.
SEPARATOR: Final = ","
#: Variables that clients read, without the prefix. The server ignores them.
RESERVED: Final = ("TOKEN", "URL")
#: Variables that Kubernetes sets in every container for a Service whose name begins with `durable-streams`, without the prefix.
_SERVICE: Final = re.compile(
    r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_\w+)?)"
)
_SERVICE_PORT: Final = re.compile(r"(?:tcp|udp|sctp)://.*")


class Environment:
    """The variables that may set something: those with our prefix, but not those of clients and of Kubernetes.

    An empty variable counts as not set.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._values = {
            name: value
            for name, value in variables.items()
            if name.startswith(PREFIX) and value and not _is_foreign(name, value)
        }

    def get(self, name: str) -> str | None:
        """Returns the value of a variable, or None if it is not set."""
        return self._values.get(name)

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Refuses variables that set nothing.

        Raises:
            click.UsageError: A variable is not one of `known`. The message names the most similar one.
        """
        names = sorted(known)
        for name in sorted(self._values):
            if name not in names:
                raise click.UsageError(
                    f"there is no setting for the environment variable {name!r}{meant(name, names)}"
                )


def variable_of(name: str) -> str:
    """Returns the environment variable of a setting."""
    return PREFIX + name.upper()


class EnvironmentOption(click.Option):
    """An option that reads its variable from the `Environment` of the context, or from that of the process if there is none."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        if not isinstance(self.envvar, str):
            return None
        return environment_of(ctx).get(self.envvar)

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Returns the value of the variable. If the flag may be repeated, returns a list of values."""
        text = self.resolve_envvar_value(ctx)
        if text is None or not self.multiple:
            return text
        return [*_parts(text)]


def environment_of(ctx: click.Context) -> Environment:
    """Returns the environment from which a context reads variables."""
    return ctx.find_object(Environment) or Environment(os.environ)


def _parts(text: str) -> Iterator[str]:
    for part in text.split(SEPARATOR):
        yield part.strip()


def _is_foreign(name: str, value: str) -> bool:
    """Returns whether a variable belongs to clients or to Kubernetes.

    For a Service named `durable-streams`, Kubernetes sets `DURABLE_STREAMS_PORT` to a URL such as `tcp://10.0.0.1:4437`.
    """
    rest = name.removeprefix(PREFIX)
    if rest in RESERVED or _SERVICE.fullmatch(rest):
        return True
    return rest.split("_")[-1] == "PORT" and _SERVICE_PORT.fullmatch(value) is not None
