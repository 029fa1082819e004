"""The error of a durable store whose data is damaged, and the refusal that a client gets for it."""

from ..errors import StreamDamaged
from ..log import log as _log
from ..protocol.refusals import stream_damaged
from ..protocol.state import Unreadable


class Damaged(Unreadable):
    """Raised when acknowledged data cannot be read back.

    The store does not change the damaged data. The command `check` reports what is damaged and where.
    """


def refusal_of(damage: Damaged) -> StreamDamaged:
    """Logs the damage, and returns the error that answers a request for the damaged stream."""
    _log.error("a stream is damaged: %s", damage)
    return stream_damaged()
