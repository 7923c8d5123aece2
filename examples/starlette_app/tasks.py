"""The job: the web process enqueues it, a worker runs it."""

from __future__ import annotations

import asyncio

from asyncjobs import INJECTED, AsyncJobs, JobContext

app = AsyncJobs(connect_timeout=2)


@app.job(queue="words", timeout=60)
async def count_words(text: str, *, ctx: JobContext = INJECTED) -> dict[str, int]:
    """How often each word stands in the text."""
    counts: dict[str, int] = {}
    words = text.split()
    for done, word in enumerate(words, 1):
        await asyncio.sleep(0.1)  # stands for asking a slow dictionary
        counts[word] = counts.get(word, 0) + 1
        ctx.progress(done, len(words), word)
    return counts
