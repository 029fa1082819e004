"""Writes settings as TOML: the line of one setting, and an example file with all of them."""

import json
import textwrap
from collections.abc import Iterator
from typing import Final

import click

from ..values import Size
from .definition import Setting
from .environment import PREFIX
from .settings import OPTIONS

_WIDTH: Final = 100  # columns of the comments in the example file
_INTRODUCTION: Final = f"""\
Settings of durable-streams-server. Start it with `durable-streams-server serve --config FILE`, and check a changed file with
`durable-streams-server settings --check FILE`. Each setting is shown with its default: remove the `#` before its name to change it.
An environment variable, {PREFIX} and the name in upper case, overrides this file, and a flag overrides both."""


def line(setting: Setting, value: object) -> str:
    """Returns the line of a settings file that gives a setting a value other than None."""
    return f"{setting.key} = {_toml(setting, value)}"


def example() -> str:
    """Returns a settings file with every setting at its default, as a comment, below what it does."""
    parts = [_comment(_INTRODUCTION)]
    for title, settings in OPTIONS.items():
        parts.append(f"# ---- {title} ----")
        parts += ["\n".join(_lines(setting)) for setting in settings]
    return "\n\n".join(parts) + "\n"


def range_text(setting: Setting) -> str:
    """Returns the values that a setting accepts, or nothing if that is clear from its name."""
    kind = setting.type
    if isinstance(kind, click.Choice):
        return ", ".join(kind.choices)
    if isinstance(kind, Size):
        return f"{kind.text(kind.minimum)} to {kind.text(kind.maximum)}"
    if isinstance(kind, click.IntRange | click.FloatRange):
        least = "above " if kind.min_open else "from " if kind.max is not None else "at least "
        most = "" if kind.max is None else f" to {kind.max}"
        return f"{least}{kind.min}{most}"
    return ""


def _lines(setting: Setting) -> Iterator[str]:
    """Yields the lines of a setting in the example file."""
    yield _comment(setting.help or "")
    if accepted := range_text(setting):
        yield f"# Values: {accepted}."
    if setting.unset:
        yield _comment(f"Default: {setting.unset}.")
    if setting.default is not None:
        yield f"#{line(setting, setting.default)}"
        return
    yield f"# Example: {line(setting, setting.example)}"


def _comment(text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _toml(setting: Setting, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_quoted, value))}]"
    if isinstance(value, int | float) and not isinstance(setting.type, Size):
        return setting.text(value)
    text = setting.text(value)
    return text if text.isdigit() else _quoted(text)


def _quoted(text: str) -> str:
    """Returns a TOML string. JSON has the same escapes, but leaves one control character as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
