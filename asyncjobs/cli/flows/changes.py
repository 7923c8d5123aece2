"""`asyncjobs flows cancel`, `retry` and `drop`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import click

from asyncjobs.cli.flows.reading import ask_flows, read_id
from asyncjobs.cli.shared.confirm import ask_first
from asyncjobs.cli.shared.one_by_one import Refused, change_each
from asyncjobs.cli.shared.store_command import store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.client import flow_acts
from asyncjobs.client.flow_retry import Which
from asyncjobs.client.flow_retry import retry as retry_flow
from asyncjobs.errors import FlowNotFound, UsageError
from asyncjobs.options.app import AppSettings
from asyncjobs.store.flows import FlowRef
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["cancel", "drop", "retry"]

_EPILOG: Final = """\b
Exit codes:
  0  done, or there was nothing to do
  1  no flow has an id, one cannot be changed, the store failed, or you answered no
  2  wrong usage or configuration; no terminal to ask on, and no --yes
  3  the store cannot be reached, or has another layout
"""

Act = Callable[[Backend, FlowRef], Awaitable[str]]
"""Changes one flow, and returns what was done to it, in words."""


@click.command(epilog=_EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@click.pass_context
def cancel(ctx: click.Context, /, *, yes: bool, **flags: Any) -> None:
    """Cancel all nodes of flows that have not ended. Those that run are asked to stop.

    Does not import the app.
    """

    async def act(store: Backend, flow: FlowRef) -> str:
        if await flow_acts.cancel(store, flow, AppSettings().result_ttl_ms):
            return "cancelled"
        return "had ended already"

    _run(ctx, act, flags, verb=_unless(yes, "Cancel"))


@click.command(epilog=_EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--all", "is_all", is_flag=True, help="Run all nodes again.")
@click.option("--from", "from_", metavar="NODE", help="Run this node and all behind it again.")
@store_options
@click.pass_context
def retry(ctx: click.Context, /, *, is_all: bool, from_: str | None, **flags: Any) -> None:
    """Run the nodes of flows again that have failed, and what was cancelled behind them.

    A flow has to have ended. Does not import the app.
    """
    if is_all and from_ is not None:
        raise click.UsageError("give --all or --from, not both", ctx)
    which: Which = "failed"
    if is_all:
        which = "all"

    async def act(store: Backend, flow: FlowRef) -> str:
        nodes = await retry_flow(store, flow, which, from_)
        return f"runs {count(nodes, 'node')} again"

    _run(ctx, act, flags)


@click.command(epilog=_EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@click.pass_context
def drop(ctx: click.Context, /, *, yes: bool, **flags: Any) -> None:
    """Forget flows that have ended, their nodes and the dead letters of these.

    Does not import the app.
    """

    async def act(store: Backend, flow: FlowRef) -> str:
        if await flow_acts.drop(store, flow):
            return "dropped"
        raise UsageError(f"flow {flow} has not ended; cancel it first")

    _run(ctx, act, flags, verb=_unless(yes, "Drop"))


def _unless(yes: bool, verb: str) -> str:
    if yes:
        return ""
    return verb


def _run(ctx: click.Context, act: Act, flags: dict[str, Any], *, verb: str = "") -> None:
    """Change each flow by itself. `verb`: ask first, with this word."""
    refs = [read_id(ctx, id) for id in flags["ids"]]
    as_json: bool = flags["as_json"]

    async def question(store: Backend, info: StoreInfo) -> int:
        if verb:
            flows = count(len(refs), "flow")
            would, undone = f"this would {verb.lower()} {flows}", "nothing was changed"
            refused = ask_first(f"{verb} {flows}?", would, undone, as_json=as_json)
            if refused is not None:
                return refused

        async def change(ref: FlowRef) -> str:
            try:
                return await act(store, ref)
            except (FlowNotFound, UsageError) as error:
                raise Refused(str(error)) from None

        return await change_each(refs, change, as_json=as_json)

    ctx.exit(ask_flows(question, flags))
