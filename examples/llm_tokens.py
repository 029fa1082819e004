"""A model's tokens over a durable stream: reload the page, lose the network, restart the server, and no token is lost or comes twice.

    uvicorn --app-dir examples llm_tokens:app

Open http://127.0.0.1:8000/, or:

    curl -X POST 'http://127.0.0.1:8000/ask?prompt=hello'                    # {"stream": "/streams/answers/…"}
    curl -N 'http://127.0.0.1:8000/streams/answers/…?offset=-1&live=sse'     # as often as you like

An answer is a stream of JSON messages: `{"token": "…"}` each, and at last `{"status": "complete"}`. If the model fails, the status is
`failed`. If the process ends first, however it ends, the status is `interrupted`: the next start finds what was left open.

Answers are kept in ./answers, or wherever ANSWERS says. Whoever knows an answer's name may read it, and nobody may write: see `guard`.
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

WEEK = 7 * 24 * 3600  # seconds that an answer is kept after its last use


async def guard(verb: str, path: str, _: Scope) -> bool:
    """Lets HTTP read answers and do nothing else. The third argument is the ASGI scope, which tells who is asking."""
    return verb == "read" and path.startswith("/answers/")


store = FileBackedStreamStore(os.environ.get("ANSWERS", "answers"))
durable = create_app(store=store, guard=guard, hooks=create_registry_hooks("/registry"))
streams = durable.streams
answering: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Finishes what the last process has left open, and at the end leaves nothing open itself."""
    await finish_what_is_open()
    yield
    for task in answering:
        task.cancel()
    await asyncio.gather(*answering, return_exceptions=True)
    await durable.stop()
    store.close()


app = FastAPI(lifespan=lifespan)
app.mount("/streams", durable)


async def model(prompt: str) -> AsyncIterator[str]:
    """Stands for a language model."""
    for word in f"You said {prompt}. I have nothing to add to that.".split():
        await asyncio.sleep(0.05)
        yield word + " "


async def answer(prompt: str, path: str) -> None:
    """Appends the tokens as they come, and at last how the answer has ended."""
    status = "interrupted"  # unless one of the next lines says otherwise
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
    """Closes an answer with its status: both are written, or neither."""
    await streams.close(path, json.dumps({"status": status}).encode())


async def finish_what_is_open() -> None:
    """Closes the answers that nobody will add to any more. The registry names every stream that was ever begun."""
    offset, up_to_date = "-1", False
    with suppress(NotFound):  # there was none yet
        while not up_to_date:
            page = await streams.read("/registry", offset)
            for event in page.json():
                if event["headers"]["operation"] == "insert":
                    await finish_if_open(event["key"])
            offset, up_to_date = page.next_offset, page.up_to_date


async def finish_if_open(path: str) -> None:
    """Closes an answer as interrupted, unless it is closed, or its time has run out."""
    with suppress(NotFound):
        if not (await streams.head(path)).closed:
            await finish(path, "interrupted")


@app.post("/ask")
async def ask(prompt: str) -> dict[str, str]:
    """Begins an answer. It goes on whether or not anybody reads it."""
    path = f"/answers/{uuid.uuid4()}"
    await streams.create(path, "application/json", ttl_seconds=WEEK)
    task = asyncio.create_task(answer(prompt, path))
    answering.add(task)
    task.add_done_callback(answering.discard)
    return {"stream": f"/streams{path}"}


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    """A page that shows an answer as it comes. EventSource reconnects by itself, at the offset that it has reached."""
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
