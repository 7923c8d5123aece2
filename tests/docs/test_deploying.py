"""What docs/deploying.md shows of other programs' files: flags that exist, times that fit."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path

import click
import pytest

from asyncjobs.backends.base import StoreSettings
from asyncjobs.backends.redis.backend import RedisBackend
from asyncjobs.cli.command import cli
from asyncjobs.testing.servers import ServerKind, available_servers, start_server

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text()
# After the grace: what jobs have for their end, and what a store that is away may take.
MARGIN_S = 15.0


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert isinstance(text, str)
    return text


def grace_s(arguments: list[str]) -> float:
    """`--grace` of a command line, which must be one that is accepted."""
    assert arguments[0].rpartition("/")[2] == "asyncjobs"
    name, *flags = arguments[1:]
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    with command.make_context(name, flags) as context:
        grace = context.params["grace"]
    assert isinstance(grace, float)
    return grace


def test_the_unit_of_systemd() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block("ini"))
    service = unit["Service"]
    grace = grace_s(shlex.split(service["ExecStart"]))
    assert service.getfloat("TimeoutStopSec") >= grace + MARGIN_S
    assert service["KillMode"] == "mixed"


def test_the_container() -> None:
    (command,) = re.findall(r"^CMD (.*)$", block("dockerfile"), re.MULTILINE)
    grace = grace_s(json.loads(command))
    (stop_s,) = re.findall(r"stop_grace_period: (\d+)s", block("yaml"))
    (kubernetes_s,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", PAGE)
    assert min(float(stop_s), float(kubernetes_s)) >= grace + MARGIN_S


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_the_lines_for_the_server(kind: ServerKind) -> None:
    if kind not in available_servers():
        pytest.skip(f"no {kind} server on this machine")
    lines = dict(line.split(maxsplit=1) for line in block("conf").splitlines())
    with start_server(kind, config=lines) as server:
        backend = RedisBackend(server.url, StoreSettings())
        try:
            info = await backend.open()
        finally:
            await backend.close()
    assert info.warnings == ()
