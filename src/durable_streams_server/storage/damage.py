"""The error of a durable store whose data is damaged."""

from ..protocol.state import Unreadable


class Damaged(Unreadable):
    """Acknowledged data cannot be read back. The store changes nothing of it; the command `check` reports what is damaged and where."""
