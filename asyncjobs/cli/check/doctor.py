"""`asyncjobs doctor`: settings of the store that can lose jobs, and how to change them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from asyncjobs.cli.shared.render import Part, Table, line, paint, show, show_json
from asyncjobs.cli.shared.store_command import fail, new_store, store_options
from asyncjobs.errors import ConfigError, StoreError
from asyncjobs.host.exits import ExitCode
from asyncjobs.store.inspect import Finding, Verdict
from asyncjobs.store.seam import Backend

__all__ = ["doctor"]

_COLORS = {
    Verdict.OK: "green",
    Verdict.NOTE: "cyan",
    Verdict.WARNING: "yellow",
    Verdict.PROBLEM: "red",
}
_EPILOG = """\b
Exit codes:
  0  no setting loses jobs; there may be warnings
  1  a problem: jobs are lost, or will be
  2  wrong usage or configuration
  3  the store cannot be reached
"""


@click.command(epilog=_EPILOG)
@store_options
@click.pass_context
def doctor(ctx: click.Context, /, url: str | None, prefix: str, *, as_json: bool) -> None:
    """Find settings of the store that can lose jobs.

    Changes nothing, but prints the commands for redis-cli or valkey-cli that change a setting. Does
    not import the app.
    """
    try:
        store = new_store(url, prefix)
        address, findings = asyncio.run(_examine(store))
    except ConfigError as error:
        ctx.exit(fail(ExitCode.USAGE, error, as_json=as_json, healthy=False))
    except StoreError as error:
        ctx.exit(fail(ExitCode.UNREACHABLE, error, as_json=as_json, healthy=False))
    is_ill = any(finding.verdict is Verdict.PROBLEM for finding in findings)
    if as_json:
        show_json(
            {
                "healthy": not is_ill,
                "store": address,
                "findings": [finding._asdict() for finding in findings],
            }
        )
    else:
        show(*_parts(address, findings))
    ctx.exit(ExitCode.failed_if(is_ill))


async def _examine(store: Backend) -> tuple[str, list[Finding]]:
    try:
        refusal: ConfigError | StoreError | None = None
        try:
            await store.open()
        except (ConfigError, StoreError) as error:
            # The store may have refused for a reason that the diagnosis explains better: eviction,
            # a replica, an old release. So examine it before giving up.
            refusal = error
        try:
            return store.address, await store.inspect.diagnose()
        except StoreError as error:
            raise refusal or error from None
    finally:
        await store.close()


def _parts(address: str, findings: Sequence[Finding]) -> list[Part]:
    rows = [
        (paint(finding.verdict, _COLORS[finding.verdict]), finding.setting, line(finding.found))
        for finding in findings
    ]
    parts: list[Part] = [f"store: {line(address)}", Table(("verdict", "setting", "found"), rows)]
    for finding in findings:
        if finding.change:
            parts.append(f"{finding.setting}:")
            parts += [f"    {line(change)}" for change in finding.change]
    return parts
