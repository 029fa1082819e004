"""The list of all metrics: their names, kinds, labels and meanings. `docs/metrics.md` has the same list, which a test compares.

No label has the name of a stream, a subscription, a client or an address, so the number of series does not grow with them (TRAPS 50).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram"]


class Family(msgspec.Struct, frozen=True):
    """One metric, with a series for each combination of its labels.

    Attributes:
        name: the name, with its unit. The name of a counter ends in `_total`.
        kind: whether the value only grows, may also fall, or is a distribution.
        help: the meaning, in one sentence.
        labels: the names of the labels.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


_ALL: list[Family] = []


def _family(kind: Kind, name: str, help_: str, *labels: str) -> Family:
    """Adds a metric to the list and returns it."""
    family = Family(f"durable_streams_{name}", kind, help_, labels)
    _ALL.append(family)
    return family


REQUESTS: Final = _family(
    "counter", "requests_total", "Responses that were sent.", "route", "status"
)
REQUEST_SECONDS: Final = _family(
    "histogram",
    "request_seconds",
    "Time from the whole request to its response, including the time in queues.",
    "route",
)
LIVE_READ_SECONDS: Final = _family(
    "histogram",
    "live_read_seconds",
    "Time from the whole request to the end of a live read.",
    "kind",
)
REQUEST_BYTES: Final = _family(
    "counter", "request_body_bytes_total", "Bytes of the request bodies that were received whole."
)
RESPONSE_BYTES: Final = _family(
    "counter", "response_body_bytes_total", "Bytes of response bodies and events.", "route"
)
LIVE_READERS: Final = _family("gauge", "live_readers", "Live reads that are open.", "kind")
LOOP_LAG: Final = _family(
    "histogram", "event_loop_lag_seconds", "How late the event loop runs a timer of 0.25 s."
)
QUEUED_STEPS: Final = _family(
    "gauge", "queued_steps", "Steps of work that wait for their turn on the event loop.", "line"
)

COMMIT_RECORDS: Final = _family(
    "histogram", "commit_records", "Records that became durable with one sync."
)
SYNC_SECONDS: Final = _family(
    "histogram", "sync_seconds", "Time of one durable write to the write-ahead log."
)
RECORDS_IN_FLIGHT: Final = _family(
    "gauge", "records_in_flight", "Records and answers that are not durable yet."
)
WAL_WRITTEN: Final = _family(
    "counter", "wal_written_bytes_total", "Bytes written to the write-ahead log, with padding."
)
WAL_SIZE: Final = _family("gauge", "wal_size_bytes", "Bytes of the write-ahead log on disk.")
WAL_FREE: Final = _family(
    "gauge", "wal_free_bytes", "Bytes of the write-ahead log on disk that records can use now."
)
CHECKPOINT_AGE: Final = _family(
    "gauge", "checkpoint_age_seconds", "Time since the last checkpoint or the start of the store."
)
CHECKPOINT_SECONDS: Final = _family(
    "histogram", "checkpoint_seconds", "Time of one checkpoint, from its first step to its last."
)
CHECKPOINT_FAILURES: Final = _family(
    "counter",
    "checkpoint_failures_total",
    "Checkpoints that failed for lack of disk space or file handles.",
)
UNWRITTEN_BYTES: Final = _family(
    "gauge", "unwritten_record_bytes", "Bytes of records since the last checkpoint began."
)
LOADED_STREAMS: Final = _family("gauge", "loaded_streams", "Streams whose states are in memory.")
CACHED_BYTES: Final = _family(
    "gauge", "cached_bytes", "Memory for recent bytes of streams, including unflushed ones."
)
DISK_FULL: Final = _family(
    "gauge", "disk_full", "1 if the disk had no room for the last checkpoint or reserve."
)
STORE_FAILED: Final = _family("gauge", "store_failed", "1 if an error has stopped the store.")
EXPIRATIONS: Final = _family(
    "counter", "expirations_total", "Streams that were removed because their lifetime ended."
)

STREAMS: Final = _family(
    "gauge", "streams", "Streams that exist, with those that are deleted and kept for their forks."
)
STREAM_BYTES: Final = _family("gauge", "stream_bytes", "Bytes of all streams.")
SUBSCRIPTIONS: Final = _family("gauge", "subscriptions", "Subscriptions that exist.")
SCHEDULED: Final = _family(
    "gauge",
    "scheduled_subscriptions",
    "Subscriptions that wait for a delivery, a retry or a lease.",
)
DELIVERIES: Final = _family(
    "counter", "webhook_deliveries_total", "Webhook deliveries that ended.", "outcome"
)
DELIVERY_SECONDS: Final = _family(
    "histogram", "webhook_delivery_seconds", "Time of one exchange with a webhook receiver."
)
DELIVERIES_WAITING: Final = _family(
    "gauge", "webhook_deliveries_waiting", "Webhook deliveries that wait for a slot."
)

LIMIT: Final = _family("gauge", "limit", "The value of a limit.", "name")
LIMIT_USED: Final = _family("gauge", "limit_used", "How much of a limit is in use.", "name")
LIMIT_REFUSALS: Final = _family(
    "counter", "limit_refusals_total", "Requests that a limit of clients has refused.", "name"
)
BUILD_INFO: Final = _family(
    "gauge", "build_info", "Always 1. The label has the version.", "version"
)

#: All metrics of this server. `prometheus-client` adds those of the process and of Python.
FAMILIES: Final[tuple[Family, ...]] = tuple(_ALL)
