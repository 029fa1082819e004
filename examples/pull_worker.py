"""A worker that asks for work: run as many as you like, and one of them has the streams below `jobs/` at any time.

    python examples/pull_worker.py http://127.0.0.1:4437/v1/stream alice

It follows the wake stream live, claims what it is told of, reads, and acknowledges page by page, which keeps its lease. A worker
that dies holds nobody up for longer than the lease: the server wakes the others then.
"""

import argparse
from typing import Any
from urllib.parse import quote

import httpx

ID = "jobs"
WAKES = "wake/jobs"


def main() -> None:
    """Subscribes, and works for ever."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("streams", help="URL of the stream root")
    parser.add_argument("worker", help="a name of its own")
    given = parser.parse_args()
    with httpx.Client(base_url=f"{given.streams}/", timeout=60) as http:
        http.put(WAKES, headers={"Content-Type": "application/json"}).raise_for_status()
        wanted = {"type": "pull-wake", "pattern": "jobs/*", "wake_stream": WAKES}
        http.put(f"__ds/subscriptions/{ID}", json=wanted).raise_for_status()
        follow(http, given.worker)


def follow(http: httpx.Client, worker: str) -> None:
    """Claims whenever the wake stream tells of news. What there was before is claimed first."""
    offset = http.get(WAKES, params={"offset": "now"}).headers["Stream-Next-Offset"]
    print("waiting for wakes", flush=True)
    while True:
        while claim(http, worker):
            pass
        events = http.get(WAKES, params={"offset": offset, "live": "long-poll"})
        events.raise_for_status()  # 200 with events, or 204 after a while without
        offset = events.headers["Stream-Next-Offset"]


def claim(http: httpx.Client, worker: str) -> bool:
    """Claims the wake and works on it; returns whether to try again at once."""
    answer = http.post(f"__ds/subscriptions/{ID}/claim", json={"worker": worker})
    if answer.status_code == 409:
        return False  # another worker has it, or it is done: an event will tell of the next
    answer.raise_for_status()
    wake = answer.json()
    for stream in wake["streams"]:
        if stream["has_pending"] and not work(http, worker, wake, stream):
            print("fenced", flush=True)
            return (
                True  # too slow: the lease ran out, and the news belongs to whoever claims it next
            )
    done = acknowledge(http, wake, [], done=True)
    return done is None or bool(done["next_wake"])


def work(http: httpx.Client, worker: str, wake: dict[str, Any], stream: dict[str, Any]) -> bool:
    """Works through one stream; returns whether the wake is still held."""
    offset, up_to_date = stream["acked_offset"], False
    while not up_to_date:
        page = http.get(quote(stream["path"]), params={"offset": offset})
        if page.status_code in (404, 410):
            break  # the stream has been deleted meanwhile
        page.raise_for_status()
        for job in page.json():
            print(worker, stream["path"], job, flush=True)
        offset = page.headers["Stream-Next-Offset"]
        up_to_date = "Stream-Up-To-Date" in page.headers
        ack = {"stream": stream["path"], "offset": offset}
        if acknowledge(http, wake, [ack], done=False) is None:
            return False
    return True


def acknowledge(
    http: httpx.Client, wake: dict[str, Any], acks: list[dict[str, str]], done: bool
) -> dict[str, Any] | None:
    """Says how far the work has come; as a heartbeat, also with no acks. Returns None when the wake is lost (FENCED)."""
    answer = http.post(
        f"__ds/subscriptions/{ID}/ack",
        headers={"Authorization": f"Bearer {wake['token']}"},
        json={
            "wake_id": wake["wake_id"],
            "generation": wake["generation"],
            "acks": acks,
            "done": done,
        },
    )
    if answer.status_code == 409:
        return None
    document: dict[str, Any] = answer.raise_for_status().json()
    wake["token"] = document.get("token", wake["token"])  # renewed in time during long work
    return document


if __name__ == "__main__":
    main()
