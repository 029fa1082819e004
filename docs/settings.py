"""Draws the tables of docs/settings.md from the definition of the settings. The text above the tables is written by hand.

Run it with `make settings` after a setting is added or changed. `tests/docs/test_settings.py` fails while the page is not current.
"""

from pathlib import Path
from typing import Final

from durable_streams_server.cli.settings.definition import Setting
from durable_streams_server.cli.settings.settings import OPTIONS
from durable_streams_server.cli.settings.writing import range_text

PAGE: Final = Path(__file__).with_suffix(".md")
_HEADING: Final = "## All settings\n"


def page() -> str:
    """Returns the page with current tables."""
    text, heading, _ = PAGE.read_text("utf-8").partition(_HEADING)
    return f"{text}{heading}\n{_INTRODUCTION}\n\n{_tables()}\n"


_INTRODUCTION: Final = """\
The script `docs/settings.py` makes these tables: run `make settings` to renew them. The column "reload" says whether a running server
takes a new value from the file on SIGHUP."""


def _tables() -> str:
    """Returns a table for each topic."""
    parts = []
    for title, settings in OPTIONS.items():
        rows = [_row(setting) for setting in settings]
        head = "| key | values | default | reload | |\n| --- | --- | --- | --- | --- |"
        parts.append("\n".join([f"### {title}", "", head, *rows]))
    return "\n\n".join(parts)


def _row(setting: Setting) -> str:
    default = setting.default_text
    if default and not setting.unset:
        default = f"`{default}`"
    cells = [
        f"`{setting.key}`",
        _values(setting),
        default,
        "yes" if setting.reloadable else "no",
        setting.help or "",
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(setting: Setting) -> str:
    """Returns what a setting accepts, in words."""
    if setting.is_flag:
        return "true, false"
    placeholder = setting.metavar or setting.type.name
    accepted = range_text(setting) or placeholder.lower().replace("|", " or ")
    return f"list of: {accepted}" if setting.multiple else accepted


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
