"""`durable-streams-server settings`: shows the settings and where each came from, checks a settings file, and prints an example."""

from typing import Any, Final

import click

from .output import shown
from .settings.loading import Loaded, SettingsCommand, load_settings
from .settings.settings import OPTIONS
from .settings.writing import example, line
from .values import FILE

_COLUMN: Final = 40  # of the source of a setting


def _check_file(ctx: click.Context, _: click.Parameter, file: str | None) -> None:
    """Checks a settings file alone and exits, if a file is given. Flags and environment variables count as not set."""
    if file is not None and not ctx.resilient_parsing:
        load_settings(("--config", file), {})
        click.echo(f"{shown(file)} is right")
        ctx.exit()


def _print_example(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    """Prints an example file and exits, if it is wanted."""
    if is_wanted and not ctx.resilient_parsing:
        click.echo(example(), nl=False)
        ctx.exit()


_ACTIONS: Final[dict[str, Any]] = {"is_eager": True, "expose_value": False}


@click.command(
    "settings",
    cls=SettingsCommand,
    params=[
        click.Option(
            ["--check"],
            type=FILE,
            callback=_check_file,
            help="Check a settings file, without environment variables and flags.",
            **_ACTIONS,
        ),
        click.Option(
            ["--example"],
            is_flag=True,
            callback=_print_example,
            help="Print a settings file with all defaults.",
            **_ACTIONS,
        ),
    ],
    epilog="Exit codes: 0 when the settings are right, 2 when they are not.",
)
def settings(loaded: Loaded) -> None:
    """Show the settings with which `serve` would run, and where each came from."""
    for title, options in OPTIONS.items():
        click.echo(f"# {title}")
        for option in options:
            value = getattr(loaded.settings, option.name)
            if value is None:
                unset = f": {option.unset}" if option.unset else ""
                click.echo(f"# {option.key}{unset}")
            else:
                said = shown(line(option, value))
                click.echo(f"{said:{_COLUMN}}  # {loaded.sources.text(option.name)}")
