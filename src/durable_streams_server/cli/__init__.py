"""The command `durable-streams-server`."""

from .main import main

__all__ = ["main"]
