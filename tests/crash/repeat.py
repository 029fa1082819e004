"""Names the command that repeats a failed run."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def repeated_by(command: str) -> Iterator[None]:
    """Adds a command to the error that ends the block, so that pytest prints it below the traceback."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"repeat with: {command}")
        raise
