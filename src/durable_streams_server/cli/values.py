"""The types of flags and arguments: directories, hosts, sizes and times. Each refuses a bad value with one clear line."""

import math
import re
from collections.abc import Callable
from typing import Any, Final

import click

from ..errors import StreamError


class _Directory(click.Path):
    """The path of a data directory. Any path but an empty one is accepted; the commands check whether it can be used."""

    name = "directory"

    def __init__(self) -> None:
        super().__init__(readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


DIRECTORY: Final = _Directory()


class _Host(click.ParamType[str]):
    """An address or host name to listen on. An empty one is refused, because it would mean every address."""

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


class Size(click.ParamType[int]):
    """A number of bytes, optionally followed by k, m or g for a power of 1024.

    Attributes:
        minimum: The smallest allowed value.
        maximum: The largest allowed value.
    """

    name = "bytes"

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(-?[0-9]{1,15})([kmg]?)", str(value).lower())
        if match is None:
            self.fail(f"{value!r} is not a number of bytes", param, ctx)
        size: int = int(match[1]) * 1024 ** "_kmg".index(match[2] or "_")
        if size < self.minimum:
            self.fail(f"{value} is below the least value, {self.minimum}", param, ctx)
        if size > self.maximum:
            self.fail(f"{value} is above the largest value, {self.maximum}", param, ctx)
        return size

    def text(self, size: int) -> str:
        """Returns a number of bytes in the largest unit that leaves no fraction, such as `64m`."""
        unit = ""
        for larger in "kmg":
            if size == 0 or size % 1024:
                break
            size, unit = size // 1024, larger
        return f"{size}{unit}"


class _Seconds(click.FloatRange):
    """A time in seconds. `nan` is refused, although it is neither below nor above any limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return seconds


#: A time above zero, and at most one day.
SECONDS: Final = _Seconds(min=0, min_open=True, max=86_400)
#: A time of at most one hour, or 0 for none.
UP_TO_AN_HOUR: Final = _Seconds(min=0, max=3_600)


class _File(click.ParamType[str]):
    """The path of a file. An empty one is refused."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("the name is empty", param, ctx)
        return str(value)


FILE: Final = _File()


class Checked(click.ParamType[str]):
    """A text that a function checks.

    Args:
        name: The placeholder for the value in the help.
        check: Raises ValueError or StreamError if the text is not valid.
    """

    def __init__(self, name: str, check: Callable[[str], object]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            self._check(value)
        except (ValueError, StreamError) as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Duration(click.ParamType[int]):
    """A time such as `30d`, `12h`, `5m` or `90s`, in seconds.

    Args:
        maximum: The largest allowed value in seconds.
    """

    name = "time"

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]{1,12})([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a time such as 90s, 5m, 12h or 30d", param, ctx)
        seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]
        if not 1 <= seconds <= self._maximum:
            self.fail(f"{value} is not between 1s and {self._maximum}s", param, ctx)
        return seconds
