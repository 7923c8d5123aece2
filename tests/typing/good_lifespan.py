"""Lifespans: what web frameworks take, and what is joined with a user's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI
from starlette.applications import Starlette

from asyncjobs import AsyncJobs
from asyncjobs.integrations import lifespan

jobs = AsyncJobs("memory:")


class Shared(TypedDict):
    greeting: str


@asynccontextmanager
async def plain(web: Starlette) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def stateful(web: Starlette) -> AsyncIterator[Shared]:
    yield {"greeting": "hello"}


@asynccontextmanager
async def for_fastapi(web: FastAPI) -> AsyncIterator[None]:
    yield


FastAPI(lifespan=lifespan(jobs))
FastAPI(lifespan=lifespan(jobs, for_fastapi))
FastAPI(lifespan=lifespan(jobs, plain))
Starlette(lifespan=lifespan(jobs))
Starlette(lifespan=lifespan(jobs, plain, stateful))
Starlette(lifespan=lifespan(jobs, lifespan(AsyncJobs("memory:"), plain)))
named = lifespan(jobs)
