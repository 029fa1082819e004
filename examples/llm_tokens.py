"""A model's tokens over a durable stream: reload the page, lose the network, and no token is lost or comes twice.

    uvicorn --timeout-graceful-shutdown 1 --app-dir examples llm_tokens:app

Open http://127.0.0.1:8000/, or:

    curl -X POST 'http://127.0.0.1:8000/ask?prompt=hello'                    # {"stream": "/streams/answers/…"}
    curl -N 'http://127.0.0.1:8000/streams/answers/…?offset=-1&live=sse'     # as often as you like

`FileBackedStreamStore("./answers")` in the place of `StreamStore()` keeps the answers on disk; its `append` waits for that, so
call it with `await asyncio.to_thread(store.append, …)`. What is mounted can be read and written by whoever reaches it: put your
own authorisation before it.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from durable_streams_server import StreamStore, create_app

store = StreamStore()
streams = create_app(store=store)
answering: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Stops the streams with the application."""
    yield
    await streams.stop()


app = FastAPI(lifespan=lifespan)
app.mount("/streams", streams)


async def model(prompt: str) -> AsyncIterator[str]:
    """Stands for a language model."""
    for word in f"You said {prompt}. I have nothing to add to that.".split():
        await asyncio.sleep(0.05)
        yield word + " "


async def answer(prompt: str, path: str) -> None:
    """Appends the tokens as they come, and closes the stream: readers are told that the answer is complete."""
    try:
        async for token in model(prompt):
            store.append(path, json.dumps(token).encode())
    finally:
        store.append(path, close=True)


@app.post("/ask")
async def ask(prompt: str) -> dict[str, str]:
    """Begins an answer. It goes on whether or not anybody reads it."""
    path = f"/answers/{uuid.uuid4()}"
    store.create(path, "application/json")
    task = asyncio.create_task(answer(prompt, path))
    answering.add(task)
    task.add_done_callback(answering.discard)
    return {"stream": f"/streams{path}"}


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    """A page that shows an answer as it comes. EventSource reconnects by itself, at the offset that it has reached."""
    return """<!doctype html><meta charset="utf-8"><title>Tokens</title>
<form><input name="prompt" value="hello"><button>Ask</button></form><p id="answer"></p>
<script>
function follow(stream) {
  const source = new EventSource(stream + "?offset=-1&live=sse");
  source.addEventListener("data", e => document.querySelector("#answer").append(...JSON.parse(e.data)));
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
