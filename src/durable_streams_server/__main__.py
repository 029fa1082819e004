"""`python -m durable_streams_server`: the same as the command."""

from .cli import main

main(prog_name="durable-streams-server")
