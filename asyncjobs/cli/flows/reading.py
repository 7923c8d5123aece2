"""What all commands for flows need: the id of a flow, and a store that keeps flows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from asyncjobs.cli.shared.store_command import Question, ask, fail
from asyncjobs.client.flows import check_flows, read_flow_id
from asyncjobs.errors import ConfigError, MissingCapability
from asyncjobs.host.exits import ExitCode
from asyncjobs.store.flows import FlowRef
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["ask_flows", "read_id"]


def read_id(ctx: click.Context, id: str) -> FlowRef:
    """Wrong usage for what is no public id."""
    try:
        return read_flow_id(id)
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None


def ask_flows(question: Question, flags: Mapping[str, Any]) -> int:
    """`ask`, of a store that keeps flows. Any other one is wrong usage."""
    as_json: bool = flags["as_json"]

    async def asked(store: Backend, info: StoreInfo) -> int:
        try:
            check_flows(store)
        except MissingCapability as error:
            return fail(ExitCode.USAGE, error, as_json=as_json)
        return await question(store, info)

    return ask(flags["url"], flags["prefix"], asked, as_json=as_json)
