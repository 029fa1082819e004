"""Builds the errors that several rules of streams raise."""

from ..errors import NotFound, StreamDamaged


def stream_not_found() -> NotFound:
    """Returns the error for a path without a stream."""
    return NotFound("there is no stream at this path")


def stream_damaged() -> StreamDamaged:
    """Returns the error for a request that needs bytes of a damaged stream."""
    return StreamDamaged("the stream's data on disk is damaged")
