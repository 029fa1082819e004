"""What the values of flags and arguments may be."""

from typing import Any, Final

import click


class _Directory(click.Path):
    """A data directory. Whether it can be used is not asked here: that is no mistake of usage, and has an exit code of its own."""

    name = "directory"

    def __init__(self) -> None:
        super().__init__(readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


DIRECTORY: Final = _Directory()


class _Host(click.ParamType[str]):
    """An address or name to listen on. An empty one, such as a variable that is not set, would mean every address."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        host = str(value)
        try:
            host.encode()
        except UnicodeEncodeError:
            self.fail("the name is not UTF-8", param, ctx)
        if not host:
            self.fail("the name is empty; 0.0.0.0 or :: is every address", param, ctx)
        return host


HOST: Final = _Host()
