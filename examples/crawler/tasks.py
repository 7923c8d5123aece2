"""The job: fetch one page, enqueue what it links to."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Final, TypedDict
from urllib.parse import urldefrag, urljoin, urlsplit

from fetch import Fetcher, NotThere

from asyncjobs import AsyncJobs, RetryPolicy, exponential

app = AsyncJobs()

CONNECTIONS: Final = int(os.environ.get("CRAWLER_CONNECTIONS", "5000"))
FETCH_TIMEOUT_S: Final = 60.0
_LINK: Final = re.compile(r'<a href="([^"]+)"')

fetcher = Fetcher(asyncio.Semaphore(CONNECTIONS), FETCH_TIMEOUT_S, max_bytes=1 << 20)


class Page(TypedDict):
    """What came of a page: where it leads, and how many of these pages were new."""

    url: str
    links: list[str]
    new: int


@app.job(
    queue="crawl",
    timeout=FETCH_TIMEOUT_S * 2,
    retry=RetryPolicy(max_attempts=3, backoff=exponential(base=0.5, cap=5)),
    discard_on=NotThere,
)
async def crawl(url: str) -> Page:
    """Fetch the page and enqueue its links.

    The id of a job is its URL: a page that many link to is fetched once, and a page
    whose worker died in the middle enqueues nothing twice.
    """
    links = links_of(await fetcher.get(url), url)
    handles = await app.enqueue_many(crawl.options(id=link).bind(link) for link in links)
    return {"url": url, "links": links, "new": sum(handle.is_new is True for handle in handles)}


def links_of(html: str, url: str) -> list[str]:
    """The pages of the same site that this one links to, each once, in their order."""
    site = urlsplit(url).netloc
    found = (urldefrag(urljoin(url, link)).url for link in _LINK.findall(html))
    return list(dict.fromkeys(link for link in found if urlsplit(link).netloc == site))
