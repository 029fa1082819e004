"""The command `durable-streams-server`: a group of commands, of which `serve` is the default."""

from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from .data import check, inspect
from .exits import EXIT_FAILED, fail
from .keys import keys
from .output import lost_output, protect_outputs, reason
from .serve import serve
from .show_settings import settings
from .tokens import token


class _DefaultGroup(click.Group):
    """A group that runs `serve` if no command is named. `serve` accepts only flags, so a first word that is not a flag names a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help", "--version")):
            args.insert(0, "serve")
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs a command, after making sure that printing cannot fail."""
        protect_outputs()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command. If its output was lost, exits with an error, except after `serve`."""
        try:
            return super().invoke(ctx)
        except NoArgsIsHelpError:
            raise  # if a group is run without a command, click lists its commands
        except click.UsageError as error:
            error.ctx = None  # otherwise click would print the usage above the error
            raise
        finally:
            if ctx.invoked_subcommand != serve.name and (lost := lost_output()):
                fail(f"what was printed is lost: {reason(lost)}", EXIT_FAILED)


@click.group(cls=_DefaultGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="durable-streams-server")
def main() -> None:
    """A server for the Durable Streams protocol. Without a command it runs `serve`."""


main.add_command(serve)
main.add_command(check)
main.add_command(inspect)
main.add_command(keys)
main.add_command(settings)
main.add_command(token)
