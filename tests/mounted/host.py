"""A host application that mounts one server at `/streams` and another at `/other`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from durable_streams_server import create_app

streams = create_app(long_poll_timeout=0.5, cors=True)
other = create_app()


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """Does nothing, like the lifespan of a host that does not know what it mounts."""
    yield


if os.environ.get("HOST") == "starlette":
    app: Starlette = Starlette(
        routes=[Mount("/streams", streams), Mount("/other", other)], lifespan=lifespan
    )
else:
    app = FastAPI(lifespan=lifespan)
    app.mount("/streams", streams)
    app.mount("/other", other)
