"""`asyncjobs flows list`, `show` and `why`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.flows.boxes import MOST_BOXES, Box, boxes_of, svg_of
from asyncjobs.cli.flows.reading import ask_flows, read_id
from asyncjobs.cli.shared.render import (
    Table,
    clean,
    field_table,
    line,
    moment,
    paint,
    show,
    show_json,
)
from asyncjobs.cli.shared.store_command import fail, store_options
from asyncjobs.cli.shared.values import show_duration
from asyncjobs.client import flow_acts
from asyncjobs.client.flows import listed
from asyncjobs.errors import FlowNotFound, UsageError
from asyncjobs.guard.own import in_own_thread
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.flow_info import FlowInfo, NodeInfo, flow_info
from asyncjobs.model.job import State
from asyncjobs.store.flows import FlowState
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["list_flows", "show_flow", "why"]

_LIST_EPILOG: Final = """\b
Exit codes:
  0  shown, even if there is no flow
  1  the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""
_ONE_EPILOG: Final = """\b
Exit codes:
  0  shown
  1  no flow has the id, or the store failed
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""
_COLORS: Final[dict[str, str]] = {
    "running": "blue",
    "succeeded": "green",
    "failed": "red",
    "dead": "red",
    "cancelled": "yellow",
    "discarded": "magenta",
}


@click.command("list", epilog=_LIST_EPILOG)
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only of this home queue.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in FlowState]),
    help="Only in this state. May be repeated.",
)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="How many flows to show at most.",
)
@store_options
@click.pass_context
def list_flows(
    ctx: click.Context,
    /,
    queues: tuple[str, ...],
    states: tuple[str, ...],
    number: int,
    **flags: Any,
) -> None:
    """List flows, the newest first.

    Does not import the app.
    """
    names = read_queues(ctx, queues)
    wanted = frozenset(FlowState(state) for state in states)

    async def question(store: Backend, info: StoreInfo) -> int:
        homes = names or await store.inspect.queues.names()
        found = await listed(store, homes, wanted, number)
        if flags["as_json"]:
            show_json({"flows": [_fields(each) for each in found]})
        elif found:
            show(_table(found))
        else:
            click.echo("no flow", err=True)
        return ExitCode.CLEAN

    ctx.exit(ask_flows(question, flags))


def _table(flows: list[FlowInfo]) -> Table:
    columns = ("id", "name", "state", "nodes", "done", "failed", "opened", "ended")
    rows = [
        (
            clean(each.id),
            clean(each.name),
            paint(each.state.value, _COLORS.get(each.state.value)),
            str(each.nodes),
            str(each.done),
            str(each.failed),
            moment(each.opened_at),
            _when(each.ended_at) or "",
        )
        for each in flows
    ]
    return Table(columns, rows, frozenset({"nodes", "done", "failed"}))


@click.command("show", epilog=_ONE_EPILOG)
@click.argument("id", metavar="ID")
@click.option(
    "--svg",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Draw it as SVG, into this file or to stdout.",
)
@store_options
@click.pass_context
def show_flow(ctx: click.Context, /, id: str, svg: str | None, **flags: Any) -> None:
    """Show a flow, with its nodes and what they wait for.

    Nodes of one function with the same parents and children are shown together. ID is queue/id.
    Does not import the app.
    """
    ref = read_id(ctx, id)

    async def question(store: Backend, info: StoreInfo) -> int:
        try:
            flow = flow_info(await flow_acts.find(store, ref))
        except FlowNotFound as error:
            return fail(ExitCode.FAILED, error, as_json=flags["as_json"])
        # All of them: a picture of some would show edges that lead nowhere.
        nodes = await flow_acts.infos(store, ref)
        if flags["as_json"]:
            show_json({**_fields(flow), "nodes": [_node(each) for each in nodes]})
            return ExitCode.CLEAN
        boxes = boxes_of(nodes)
        if svg is not None:
            return await _draw(flow, boxes, svg)
        show(field_table(_rows(flow)), _tree(boxes))
        return ExitCode.CLEAN

    ctx.exit(ask_flows(question, flags))


async def _draw(flow: FlowInfo, boxes: list[Box], svg: str) -> int:
    if len(boxes) > MOST_BOXES:
        return fail(
            ExitCode.FAILED,
            f"flow {flow.id} has {len(boxes):,} nodes of different kinds, and a picture may have "
            f"{MOST_BOXES}: look at it by --json",
        )
    picture = svg_of(f"{flow.name or flow.id} ({flow.state})", boxes)
    # Without a line of its own: somebody pipes it into a file.
    if svg == "-":
        click.echo(picture, nl=False)
        return ExitCode.CLEAN
    try:
        await in_own_thread(Path(svg).write_text, picture, "utf-8")
    except OSError as error:
        return fail(ExitCode.FAILED, f"{svg}: {error.strerror}")
    return ExitCode.CLEAN


def _tree(boxes: list[Box]) -> Table:
    rows = [
        (
            # Deeper ones would leave no room for their names.
            "  " * min(box.layer, 20) + clean(box.title),
            paint(box.told, _COLORS.get(box.state.value)),
            clean(", ".join(boxes[before].name for before in box.after)),
        )
        for box in boxes
    ]
    return Table(("node", "state", "after"), rows)


def _rows(flow: FlowInfo) -> dict[str, str | None]:
    counts = ", ".join(f"{number:,} {state}" for state, number in sorted(flow.ended.items()))
    return {
        "flow": flow.id,
        "name": flow.name or None,
        "state": flow.state.value,
        "nodes": f"{flow.nodes:,}",
        "ended nodes": counts or None,
        "opened": moment(flow.opened_at),
        "ended": _when(flow.ended_at),
        "kept for": show_duration(flow.keep_s),
    }


def _when(at: datetime | None) -> str | None:
    if at is None:
        return None
    return moment(at)


@click.command(epilog=_ONE_EPILOG)
@click.argument("id", metavar="ID")
@click.argument("node", metavar="NODE")
@store_options
@click.pass_context
def why(ctx: click.Context, /, id: str, node: str, **flags: Any) -> None:
    """Say what a node of a flow waits for.

    Does not import the app.
    """
    ref = read_id(ctx, id)

    async def question(store: Backend, info: StoreInfo) -> int:
        try:
            reason = await flow_acts.why(store, ref, node)
        except (FlowNotFound, UsageError) as error:
            return fail(ExitCode.FAILED, error, as_json=flags["as_json"])
        if flags["as_json"]:
            show_json({"node": node, "why": reason})
        else:
            click.echo(line(f"{node}: {reason}"))
        return ExitCode.CLEAN

    ctx.exit(ask_flows(question, flags))


def _fields(flow: FlowInfo) -> dict[str, Any]:
    # Without the context, which may hold what must not be shown.
    ended = None
    if flow.ended_at is not None:
        ended = flow.ended_at.isoformat()
    return {
        "id": flow.id,
        "name": flow.name,
        "state": flow.state.value,
        "nodes": flow.nodes,
        "states": {State(state).value: number for state, number in flow.ended.items()},
        "opened_at": flow.opened_at.isoformat(),
        "ended_at": ended,
        "keep_s": flow.keep_s,
    }


def _node(node: NodeInfo) -> dict[str, Any]:
    return {
        "name": node.name,
        "job": str(node.job),
        "function": node.function,
        "state": node.state.value,
        "after": dict(node.after),
        "held_by": node.held_by,
        "added_by": node.added_by,
    }
