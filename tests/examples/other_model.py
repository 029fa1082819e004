"""Runs the example `llm_tokens` with a model that yields two tokens and then fails or hangs, as the prompt says."""

import asyncio
from collections.abc import AsyncIterator

import llm_tokens
from llm_tokens import app

__all__ = ["app"]


async def model(prompt: str) -> AsyncIterator[str]:
    yield "half "
    yield "an answer"
    if prompt == "fail":
        raise RuntimeError("the model has failed")
    await asyncio.Event().wait()


llm_tokens.model = model
