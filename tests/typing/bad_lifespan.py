"""Lifespans that the checkers must refuse, each on its marked line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.applications import Starlette

from asyncjobs import AsyncJobs
from asyncjobs.integrations import lifespan

jobs = AsyncJobs("memory:")


async def undecorated(web: Starlette) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def for_fastapi(web: FastAPI) -> AsyncIterator[None]:
    yield


lifespan()  # error
lifespan("redis://localhost")  # error
lifespan(jobs, undecorated)  # error
Starlette(lifespan=lifespan)  # error
Starlette(lifespan=lifespan(jobs, for_fastapi))  # error
