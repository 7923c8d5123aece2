"""Isolation that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from asyncjobs import AsyncJobs, Worker

app = AsyncJobs()


def registers() -> None:
    app.job(isolation="fork")  # error
    app.job(isolation="process", max_memory=0.5)  # error


def starts() -> None:
    Worker(app, job_processes="2")  # error
