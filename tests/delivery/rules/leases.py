"""Rule 5: while a lease runs, the server hands out no other wake of the same subscription."""

from dataclasses import dataclass

from tests.delivery.history import (
    Answering,
    Record,
    Requested,
    Responded,
    Stalled,
    StreamGone,
    Subscribed,
    Unsubscribed,
)
from tests.delivery.rules.rule import SLACK, Handover, Rule, is_accepted

MARGIN = 0.05  # seconds by which clocks may differ
#: Maximum seconds from the start of a lease until the receiver records the delivery, while the server runs.
UNDER_WAY = 0.7


@dataclass
class _Lease:
    """The newest lease of a subscription.

    Attributes:
        until: the time until which the lease must be running, or 0 if it may have ended.
        is_sure: True if the server has confirmed the lease, so that a kill does not end it.
    """

    wake_id: str
    generation: int
    until: float
    is_sure: bool


class Leases(Rule):
    """Rule 5: while a lease runs, the server hands out no other wake of the same subscription."""

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, _Lease] = {}
        self._broke_at = 0.0  # when the server or the machine last paused
        self._gone_at = -SLACK  # when a stream was last deleted

    def on_handover(self, handover: Handover) -> None:
        lease = self._leases.get(handover.sub)
        is_claim = handover.since is not None
        if lease is not None and (is_claim or handover.generation > lease.generation):
            early = lease.until - handover.at
            if early > MARGIN:
                self.found.append(
                    f"{handover.sub}: wake {handover.wake_id} comes {early:.2f} s before the lease "
                    f"of {lease.wake_id} ends"
                )
        if lease is not None and lease.wake_id == handover.wake_id and not is_claim:
            lease.until = 0.0  # delivered again, so the start of its lease is unknown
            return
        seconds = self.lease(handover.sub)
        if handover.since is not None:
            until = handover.since + seconds
        else:
            # If the server paused a moment ago, the start of the lease is unknown. If the server is down, this may be its last delivery,
            # and the next server sends the wake again immediately.
            is_known = not self.is_down and handover.at > self._broke_at + UNDER_WAY
            is_sound = is_known and handover.at > self._gone_at + SLACK
            until = handover.at + seconds - UNDER_WAY if is_sound else 0.0
        self._leases[handover.sub] = _Lease(handover.wake_id, handover.generation, until, is_claim)

    def on_answering(self, record: Answering) -> None:
        delivery = self.deliveries[record.number]
        lease = self._leases.get(delivery.sub)
        if lease is not None and lease.wake_id == delivery.wake_id and record.how != "taken":
            lease.until = 0.0

    def on_break(self, record: Record) -> None:
        self._broke_at = record.at
        self._forget_unconfirmed()

    def on_streamgone(self, record: StreamGone) -> None:
        self._gone_at = record.at
        self._forget_unconfirmed()  # a wake that no worker holds ends when its last stream is deleted

    def on_stalled(self, record: Stalled) -> None:
        self._broke_at = record.at
        self._forget_unconfirmed()

    def on_requested(self, record: Requested) -> None:
        lease = self._leases.get(record.sub)
        if lease is None or lease.wake_id != record.wake_id:
            return
        if record.done or record.what == "release":
            lease.until = 0.0

    def on_responded(self, record: Responded) -> None:
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

    def _forget_unconfirmed(self) -> None:
        for lease in self._leases.values():
            if not lease.is_sure:
                lease.until = 0.0
