"""The exit codes of all commands. 0 means success, and click itself exits with 2 for a bad flag or value."""

import sys
from typing import Final, NoReturn

import click

from .output import flush_log

EXIT_FAILED: Final = 1  # the server failed, a check found damage, or output was lost
EXIT_ADDRESS: Final = 3  # the address cannot be listened on
EXIT_DATA: Final = 4  # the data directory cannot be used
EXIT_STORE: Final = 5  # the disk has failed, so the store has stopped


def fail(message: str, code: int) -> NoReturn:
    """Prints one line on standard error, after the log, and exits. Prints nothing if nobody reads the log, because printing would block."""
    if flush_log():
        click.echo(f"durable-streams-server: {message}", err=True)
    sys.exit(code)
