"""Rule 5: while a lease surely runs, nobody else gets a wake of the same subscription."""

from dataclasses import dataclass

from tests.delivery.history import (
    Answering,
    Asked,
    Gone,
    Record,
    Replied,
    Stalled,
    Subscribed,
    Unsubscribed,
)
from tests.delivery.rules.rule import SLACK, Rule, Telling, is_accepted

MARGIN = 0.05
#: Seconds that may pass from the start of a lease until the receiver notes the delivery, while the server runs.
UNDER_WAY = 0.7


@dataclass
class _Lease:
    """The newest lease of a subscription.

    Attributes:
        until: the lease surely runs until then, unless it has ended.
        is_sure: whether the server has confirmed the lease, so a kill does not end it.
    """

    wake_id: str
    generation: int
    until: float
    is_sure: bool


class Leases(Rule):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, _Lease] = {}
        self._broke_at = 0.0  # when the server or the test last stood still
        self._gone_at = -SLACK  # when a stream was deleted for the last time

    def on_telling(self, telling: Telling) -> None:
        lease = self._leases.get(telling.sub)
        is_claim = telling.since is not None
        if lease is not None and (is_claim or telling.generation > lease.generation):
            early = lease.until - telling.at
            if early > MARGIN:
                self.found.append(
                    f"{telling.sub}: wake {telling.wake_id} comes {early:.2f} s before the lease "
                    f"of {lease.wake_id} ends"
                )
        if lease is not None and lease.wake_id == telling.wake_id and not is_claim:
            lease.until = 0.0  # delivered again: nobody knows when its lease began
            return
        seconds = self.lease(telling.sub)
        if telling.since is not None:
            until = telling.since + seconds
        else:
            # Nobody knows when the lease began if the server stood still a moment ago. If it is down, this may be the old server's last
            # delivery, and the new server sends the wake again at once.
            is_known = not self.is_down and telling.at > self._broke_at + UNDER_WAY
            is_sound = is_known and telling.at > self._gone_at + SLACK
            until = telling.at + seconds - UNDER_WAY if is_sound else 0.0
        self._leases[telling.sub] = _Lease(telling.wake_id, telling.generation, until, is_claim)

    def on_answering(self, record: Answering) -> None:
        delivery = self.deliveries[record.number]
        lease = self._leases.get(delivery.sub)
        if lease is not None and lease.wake_id == delivery.wake_id and record.how != "taken":
            lease.until = 0.0

    def on_break(self, record: Record) -> None:
        self._broke_at = record.at
        self._forget_guesses()

    def on_gone(self, record: Gone) -> None:
        self._gone_at = record.at
        self._forget_guesses()  # a wake that nobody has taken ends with its last news

    def on_stalled(self, record: Stalled) -> None:
        self._broke_at = record.at
        self._forget_guesses()

    def on_asked(self, record: Asked) -> None:
        lease = self._leases.get(record.sub)
        if lease is None or lease.wake_id != record.wake_id:
            return
        if record.done or record.what == "release":
            lease.until = 0.0

    def on_replied(self, record: Replied) -> None:
        asked = self.requests[record.number]
        lease = self._leases.get(asked.sub)
        if lease is None or lease.wake_id != asked.wake_id or not is_accepted(record.status):
            return
        if asked.what in ("ack", "callback") and not asked.done and lease.until:
            lease.until = max(lease.until, asked.at + self.lease(asked.sub))
            lease.is_sure = True

    def on_subscribed(self, record: Subscribed) -> None:
        self._leases.pop(record.sub, None)

    def on_unsubscribed(self, record: Unsubscribed) -> None:
        self._leases.pop(record.sub, None)

    def _forget_guesses(self) -> None:
        for lease in self._leases.values():
            if not lease.is_sure:
                lease.until = 0.0
