"""Tests that tokens, keys and signatures appear in no log and in no response that refuses a request."""

import subprocess
from pathlib import Path
from typing import Any

import httpx

from durable_streams_server.streams.file_store import FileBackedStreamStore
from tests.process import COMMAND
from tests.webhook import BROKEN, DONE, TAKEN, Answer, Delivery, receiving

BASE = "/v1/stream"
JSON = {"content-type": "application/json"}
FLAGS = ("--port", "0", "--drain", "0", "--log-level", "debug")


def test_logs_and_refusals_contain_no_token_key_or_signature(tmp_path: Path) -> None:
    secrets: set[str] = set()
    refusals: list[httpx.Response] = []
    answers: list[Answer] = [BROKEN, TAKEN, DONE]
    process = subprocess.Popen(
        [*COMMAND, "serve", *FLAGS, "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]

    def call(http: httpx.Client, action: str, token: str, body: dict[str, Any]) -> None:
        headers = {"authorization": f"Bearer {token}"}
        answer = http.post(f"__ds/subscriptions/{action}", json=body, headers=headers)
        if answer.status_code >= 400:
            refusals.append(answer)

    with receiving() as hook, httpx.Client(base_url=url + BASE, headers=JSON) as http:
        hook.answer = lambda _: answers.pop(0)
        webhook = {"type": "webhook", "streams": ["a"], "webhook": {"url": hook.url + "/?key=hush"}}
        assert http.put("__ds/subscriptions/s", json=webhook).status_code == 201
        pull = {"type": "pull-wake", "streams": ["a"], "wake_stream": "wakes"}
        assert http.put("__ds/subscriptions/p", json=pull).status_code == 201
        http.put("a")
        http.post("a", content="1")
        deliveries: list[Delivery] = [hook.next(), hook.next()]
        claimed = http.post("__ds/subscriptions/p/claim", json={"worker": "w"}).json()
        for token in (deliveries[1].wake["callback_token"], claimed["token"]):
            wake = {"wake_id": "w_0", "generation": 99}
            call(http, "s/callback", token, wake)
            call(http, "p/ack", token, wake)
            call(http, "p/release", token, wake)
            call(http, "s/callback", token[:-3] + "AAA", wake)
            call(http, "s/callback", token, {"wake_id": token})
            call(http, f"s/callback?token={token}", "none", wake)
            call(http, f"{token}/claim", token, {"worker": "w"})
            secrets |= {token, token.rsplit(".", 1)[1]}
        secrets |= {each.signature.rsplit("=", 1)[1] for each in deliveries}
        refusals.append(http.put("__ds/subscriptions/s", json=pull))
    process.terminate()
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    with FileBackedStreamStore(tmp_path) as store:
        (key,) = store.subscriptions.keys
    secrets |= {key.seed.hex(), key.secret.hex(), repr(key.seed), repr(key.secret), "key=hush"}
    assert len(refusals) > 10
    assert "a delivery of s was answered with 500" in said
    for text in (said, *(answer.text + str(answer.headers) for answer in refusals)):
        assert not [secret for secret in secrets if secret in text]
        assert "Traceback" not in text
