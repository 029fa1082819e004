"""A pull-wake worker for the streams below `jobs/`. You may run several workers; one of them holds the lease at any time.

    python examples/pull_worker.py http://127.0.0.1:4437/v1/stream alice

The worker follows the wake stream. When a wake comes, it claims the wake, reads the streams and acknowledges each page, which extends its
lease. If a worker dies, the server wakes the others when the lease has expired.
"""

import argparse
from typing import Any
from urllib.parse import quote

import httpx

ID = "jobs"
WAKES = "wake/jobs"


def main() -> None:
    """Creates the subscription, and works until the process is killed."""
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
    """Follows the wake stream and claims each wake. A wake that is already waiting is claimed first."""
    offset = http.get(WAKES, params={"offset": "now"}).headers["Stream-Next-Offset"]
    print("waiting for wakes", flush=True)
    while True:
        while claim(http, worker):
            pass
        events = http.get(WAKES, params={"offset": offset, "live": "long-poll"})
        events.raise_for_status()  # 200 with events, or 204 after the timeout
        offset = events.headers["Stream-Next-Offset"]


def claim(http: httpx.Client, worker: str) -> bool:
    """Claims the wake and does its work. Returns whether to claim again immediately."""
    answer = http.post(f"__ds/subscriptions/{ID}/claim", json={"worker": worker})
    if answer.status_code == 409:
        return False  # another worker has the wake, or it is done; an event announces the next wake
    answer.raise_for_status()
    wake = answer.json()
    for stream in wake["streams"]:
        if stream["has_pending"] and not work(http, worker, wake, stream):
            print("fenced", flush=True)
            return True  # the lease has expired, so the next worker that claims gets the work
    done = acknowledge(http, wake, [], done=True)
    return done is None or bool(done["next_wake"])


def work(http: httpx.Client, worker: str, wake: dict[str, Any], stream: dict[str, Any]) -> bool:
    """Does the work of one stream. Returns whether this worker still holds the lease."""
    offset, up_to_date = stream["acked_offset"], False
    while not up_to_date:
        page = http.get(quote(stream["path"]), params={"offset": offset})
        if page.status_code in (404, 410):
            break  # the stream was deleted meanwhile
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
    """Acknowledges offsets and extends the lease. Without acks it is a heartbeat. Returns None if the lease is lost (FENCED)."""
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
    wake["token"] = document.get(
        "token", wake["token"]
    )  # the server renews the token during long work
    return document


if __name__ == "__main__":
    main()
