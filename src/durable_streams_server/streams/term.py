"""`Term`: how long a live read may last, if a token or the host application allows it only for a limited time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..protocol.units import SECOND


class Term(msgspec.Struct, frozen=True):
    """How long a live read may last.

    Attributes:
        until: When it must end, in microseconds since 1970, or None.
        still_holds: Returns whether the live read may go on, for example because its token has not been revoked. None if nothing can end it early.
    """

    until: int | None = None
    still_holds: Callable[[], bool] | None = None

    def seconds_left(self, now: int, at_most: float) -> float:
        """Returns the seconds that a live read may last, at least 0.

        Args:
            now: Microseconds since 1970.
            at_most: The seconds that it lasts otherwise.
        """
        return at_most if self.until is None else min(at_most, max(0, self.until - now) / SECOND)

    @property
    def is_over(self) -> bool:
        """Whether the live read must end before `until`, for example because its token has been revoked."""
        return self.still_holds is not None and not self.still_holds()
