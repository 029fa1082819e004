"""Streams the tokens of a language model through a durable stream.

You may reload the page, lose the network or restart the server: no token is lost, and none arrives twice.

    uvicorn --app-dir examples llm_tokens:app

Open http://127.0.0.1:8000/, or:

    curl -X POST 'http://127.0.0.1:8000/ask?prompt=hello'                    # {"stream": "/streams/answers/…"}
    curl -N 'http://127.0.0.1:8000/streams/answers/…?offset=-1&live=sse'     # as often as you like

An answer is a stream of JSON messages. Each has a token, `{"token": "…"}`, except for the last one, `{"status": "complete"}`. If the model
fails, the status is `failed`. If the process stops before the end of an answer, the status is `interrupted`. If it is killed, the next
start closes the open answers with this status.

Answers are kept in ./answers, or in the directory that ANSWERS names. Everyone who knows the name of an answer may read it, and no client may
write; see `guard`.
"""

import asyncio
import json
import logging
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from durable_streams_server import (
    FileBackedStreamStore,
    NotFound,
    Scope,
    create_app,
    create_registry_hooks,
)

WEEK = 7 * 24 * 3600  # seconds after its last use for which an answer is kept


async def guard(verb: str, path: str, _: Scope) -> bool:
    """Lets clients read answers and nothing else. The third argument is the ASGI scope, which identifies the client."""
    return verb == "read" and path.startswith("/answers/")


store = FileBackedStreamStore(os.environ.get("ANSWERS", "answers"))
durable = create_app(store=store, guard=guard, hooks=create_registry_hooks("/registry"))
streams = durable.streams
answering: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Closes answers that an earlier process has left open. At the end, closes the open answers of this process."""
    await finish_open_answers()
    yield
    for task in answering:
        task.cancel()
    await asyncio.gather(*answering, return_exceptions=True)
    await durable.stop()
    store.close()


app = FastAPI(lifespan=lifespan)
app.mount("/streams", durable)


async def model(prompt: str) -> AsyncIterator[str]:
    """Yields tokens like a language model. Replace this function with a real model."""
    for word in f"You said {prompt}. I have nothing to add to that.".split():
        await asyncio.sleep(0.05)
        yield word + " "


async def answer(prompt: str, path: str) -> None:
    """Appends each token when the model yields it, and closes the answer with its status."""
    status = "interrupted"  # the status if this task is cancelled
    try:
        async for token in model(prompt):
            await streams.append(path, json.dumps({"token": token}).encode())
        status = "complete"
    except Exception:
        logging.exception("the answer %s has failed", path)
        status = "failed"
    finally:
        await finish(path, status)


async def finish(path: str, status: str) -> None:
    """Closes an answer with its status, in one atomic append."""
    await streams.close(path, json.dumps({"status": status}).encode())


async def finish_open_answers() -> None:
    """Closes the answers that an earlier process has left open. The registry lists every stream that was ever created."""
    offset, up_to_date = "-1", False
    with suppress(NotFound):  # the registry is created with the first answer
        while not up_to_date:
            page = await streams.read("/registry", offset)
            for event in page.json():
                if event["headers"]["operation"] == "insert":
                    await finish_if_open(event["key"])
            offset, up_to_date = page.next_offset, page.up_to_date


async def finish_if_open(path: str) -> None:
    """Closes an answer as interrupted, unless it is closed or has expired."""
    with suppress(NotFound):
        if not (await streams.head(path)).closed:
            await finish(path, "interrupted")


@app.post("/ask")
async def ask(prompt: str) -> dict[str, str]:
    """Starts an answer and returns its stream. The answer continues even if no client reads it."""
    path = f"/answers/{uuid.uuid4()}"
    await streams.create(path, "application/json", ttl_seconds=WEEK)
    task = asyncio.create_task(answer(prompt, path))
    answering.add(task)
    task.add_done_callback(answering.discard)
    return {"stream": f"/streams{path}"}


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    """Returns a page that shows an answer token by token. EventSource reconnects by itself, at the offset that it has reached."""
    return """<!doctype html><meta charset="utf-8"><title>Tokens</title>
<form><input name="prompt" value="hello"><button>Ask</button></form><p id="answer"></p><p id="status"></p>
<script>
function show(message) {
  if (message.token !== undefined) document.querySelector("#answer").append(message.token);
  else if (message.status !== "complete") document.querySelector("#status").append("The answer was " + message.status + ".");
}
function follow(stream) {
  const source = new EventSource(stream + "?offset=-1&live=sse");
  source.addEventListener("data", e => JSON.parse(e.data).forEach(show));
  source.addEventListener("control", e => { if (JSON.parse(e.data).streamClosed) source.close(); });
}
document.querySelector("form").onsubmit = async e => {
  e.preventDefault();
  const asked = await fetch("/ask?" + new URLSearchParams(new FormData(e.target)), {method: "POST"});
  location.hash = (await asked.json()).stream;
  location.reload();
};
if (location.hash) follow(location.hash.slice(1));
</script>"""
