"""From what asyncjobs raises to what a client is told."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from asyncjobs import (
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobNotFound,
    ResultError,
    StoreError,
)


def install(web: FastAPI) -> None:
    """Have these errors answered wherever a request meets them."""
    web.add_exception_handler(ResultError, no_result)
    web.add_exception_handler(StoreError, no_store)


def described(error: Exception) -> dict[str, Any]:
    """The body. Tracebacks and messages of failed jobs stay in the worker's log."""
    body = {"error": type(error).__name__}
    if isinstance(error, JobFailed):
        return {**body, "detail": "the job failed", "error_type": error.error_type}
    if isinstance(error, StoreError):
        return {**body, "detail": "the job store does not answer; try again"}
    return {**body, "detail": str(error)}


async def no_result(request: Request, error: Exception) -> JSONResponse:
    """404 unknown or expired, 409 ended without a result on purpose, 500 failed."""
    status = 500
    if isinstance(error, JobNotFound):
        status = 404
    elif isinstance(error, JobCancelled | JobDiscarded):
        status = 409
    return JSONResponse(described(error), status)


async def no_store(request: Request, error: Exception) -> JSONResponse:
    """503: a POST may or may not have stored its job; its Idempotency-Key makes it safe."""
    return JSONResponse(described(error), 503, headers={"Retry-After": "2"})
