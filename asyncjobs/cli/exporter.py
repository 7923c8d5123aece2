"""`asyncjobs exporter`: the state of all queues for Prometheus, one exporter for all workers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import click

from asyncjobs.cli.shared.stopping import stop_signals
from asyncjobs.cli.shared.store_command import ask, fail, place_options
from asyncjobs.errors import ConfigError
from asyncjobs.guard.own import in_own_thread
from asyncjobs.host.exits import ExitCode
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["exporter"]

SCRAPE_S: Final = 5.0
"""How long a scrape waits for the store. Prometheus itself gives up after ten seconds."""
TURN_S: Final = 0.5
"""The loop wakes at least this often, see `_serve`."""
_EPILOG = """\b
Exit codes:
  0  stopped by a signal
  2  wrong usage or configuration, or the port is taken
  3  the store cannot be reached at the start, or has another layout
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=9464,
    show_default=True,
    metavar="N",
    help="Port for /metrics.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen at. Use 0.0.0.0 for scrapes from other machines.",
)
@place_options
@click.pass_context
def exporter(ctx: click.Context, /, port: int, host: str, url: str | None, prefix: str) -> None:
    """Serve metrics of all queues for Prometheus, until stopped.

    Run one exporter for all workers, because the numbers are the store's. Each scrape asks the
    store. Does not import the app.
    """
    from asyncjobs.cli.shared.logs import configure_logging, is_json
    from asyncjobs.cli.shared.metrics import EXTRA_MISSING, can_export

    if not can_export():
        raise click.UsageError(f"exporter {EXTRA_MISSING}", ctx)
    configure_logging("info", json=is_json("auto"))

    async def question(store: Backend, _: StoreInfo) -> int:
        try:
            await _serve(store, host, port)
        except ConfigError as error:
            return fail(ExitCode.USAGE, error)
        return ExitCode.CLEAN

    ctx.exit(ask(url, prefix, question, as_json=False))


async def _serve(store: Backend, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError."""
    from asyncjobs.cli.shared.endpoint import Endpoint
    from asyncjobs.telemetry.queues import QueueGauges, QueueView, look_at_queues

    loop = asyncio.get_running_loop()

    async def look() -> QueueView:
        async with asyncio.timeout(SCRAPE_S):
            return await look_at_queues(store)

    def look_from_thread() -> QueueView:
        return asyncio.run_coroutine_threadsafe(look(), loop).result()

    endpoint = Endpoint(host, port)
    QueueGauges(look_from_thread).attach(endpoint.provider)
    with stop_signals() as stop:
        try:
            await in_own_thread(endpoint.open)
            while not stop.is_set():
                # The system may deliver a signal to a thread that serves a scrape. That does not
                # wake the loop, and Python runs the handler only when the loop wakes.
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), TURN_S)
        finally:
            # In a thread, because a scrape in progress still needs this loop.
            await in_own_thread(endpoint.close)
