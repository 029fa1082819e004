"""A FastAPI application with streams at `/streams`."""

from fastapi import FastAPI

from tests.hosts.top import app as streams

app = FastAPI()
app.mount("/streams", streams)
