"""Runs the `durable-streams-server` command for `python -m durable_streams_server`."""

from .cli import main

main(prog_name="durable-streams-server")
