"""The files of other programs in docs/guides/deploying.md: flags that exist, times that fit."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from asyncjobs.cli.command import cli
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import StoreSettings
from asyncjobs.testing.servers import ServerKind, available_servers, start_server

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guides" / "deploying.md").read_text()
# After the grace: what jobs have for their end, and what a store that is away may take.
MARGIN_S = 15.0
# A process that ends itself at the hard limit has told the store by then.
BLOCKED_MARGIN_S = 15.0


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert isinstance(text, str)
    return text


def times_s(arguments: list[str]) -> tuple[float, float]:
    """`--grace` and `--hard-limit` of a command line, which must be one that is accepted."""
    assert arguments[0].rpartition("/")[2] == "asyncjobs"
    name, *flags = arguments[1:]
    parent = click.Context(cli, **cli.context_settings)
    command = cli.get_command(parent, name)
    assert command is not None
    # A command keeps the flags of help that it was first given.
    with command.make_context(name, flags, parent=parent) as context:
        grace, hard_limit = context.params["grace"], context.params["hard_limit"]
    assert isinstance(grace, float)
    assert isinstance(hard_limit, float)
    return grace, hard_limit


def test_the_unit_of_systemd() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block("ini"))
    service = unit["Service"]
    grace, hard_limit = times_s(shlex.split(service["ExecStart"]))
    assert service["Type"] == "notify"
    assert hard_limit + BLOCKED_MARGIN_S <= service.getfloat("WatchdogSec")
    assert service.getfloat("TimeoutStopSec") >= grace + MARGIN_S
    assert service["KillMode"] == "mixed"


def test_the_container() -> None:
    (command,) = re.findall(r"^CMD (.*)$", block("dockerfile"), re.MULTILINE)
    grace, _ = times_s(json.loads(command))
    (stop_s,) = re.findall(r"stop_grace_period: (\d+)s", block("yaml"))
    found = {float(stop_s), *map(float, re.findall(r"GracePeriodSeconds: (\d+)", PAGE))}
    assert min(found) >= grace + MARGIN_S


def test_the_probes_of_kubernetes() -> None:
    text = block("yml")
    (args,) = re.findall(r"args: (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
    arguments = json.loads(args)
    _, hard_limit = times_s(arguments)
    port = arguments[arguments.index("--health-port") + 1]
    paths = re.findall(r"httpGet: \{path: (\S+), port: (\d+)\}", text)
    assert sorted(paths) == [("/livez", port), ("/readyz", port), ("/startupz", port)]
    (live,) = re.findall(r"livenessProbe:.*?period\w+: (\d+).*?Threshold: (\d+)", text, re.DOTALL)
    assert hard_limit + BLOCKED_MARGIN_S <= int(live[0]) * int(live[1])


def test_the_command_for_the_file(tmp_path: Path) -> None:
    (line,) = re.findall(r"^python (-c .*)$", block("sh"), re.MULTILINE)
    file = tmp_path / "worker.health"
    command = [sys.executable, *shlex.split(line.replace("/tmp/worker.health", str(file)))]

    def code() -> int:
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode

    missing = code()
    file.touch()
    fresh = code()
    then = time.time() - 20
    os.utime(file, (then, then))
    assert (missing, fresh, code()) == (1, 0, 1)


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
