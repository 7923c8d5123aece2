"""docs/reference/cli.md: the commands with their usage, help, flags and exit codes."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

import click

from asyncjobs.cli.command import cli
from asyncjobs.cli.shared.values import show_duration

HEAD = """\
# Command line

<!-- Written by tools/cli_page.py from the commands; change their help there. -->

`asyncjobs COMMAND --help` shows the same. On a terminal, commands show tables; elsewhere they
write plain lines. `--json` writes JSON for programs.

Durations are a number and a unit: `250ms`, `30s`, `5m`, `2h`. Each flag of `asyncjobs worker` can
also be set by a variable: `--log-level` by `ASYNCJOBS_WORKER_LOG_LEVEL`. The flag wins.
"""


def page() -> str:
    """The whole page."""
    commands = list(commands_of("asyncjobs", cli))
    lines = [HEAD, "| command | what it does |", "|---|---|"]
    for path, command in commands:
        lines.append(f"| [`{path}`](#{path.replace(' ', '-')}) | {paragraphs(command)[0]} |")
    for path, command in commands:
        lines += ["", *section(path, command)]
    return "\n".join(lines) + "\n"


def commands_of(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Each command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in sorted(command.list_commands(context)):
            found = command.get_command(context, name)
            if found is not None:
                yield from commands_of(f"{path} {name}", found)
    elif not command.hidden:
        yield path, command


def section(path: str, command: click.Command) -> Iterator[str]:
    # A command keeps the flags of help that it was first given.
    context = click.Context(command, info_name=path, **cli.context_settings)
    usage = " ".join(command.get_usage(context).removeprefix("Usage:").split())
    yield f"## {path}\n"
    yield f"`{usage}`\n"
    for paragraph in paragraphs(command):
        yield f"{paragraph}\n"
    flags = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if flags:
        yield "| flag | default | what it does |"
        yield "|---|---|---|"
    for flag in flags:
        yield f"| {names_of(flag)} | {default_of(flag)} | {in_table(flag.help or '')} |"
    for block in (command.epilog or "").split("\b\n"):
        if block.strip():
            if flags:
                yield ""
            yield "<!-- docs: not run: part of the command's help -->"
            yield f"```text\n{block.strip()}\n```"


def paragraphs(command: click.Command) -> list[str]:
    """The command's help, each paragraph on a line of its own."""
    parts = (command.help or "").replace("\b\n", "").split("\n\n")
    return [" ".join(part.split()) for part in parts if part.strip()]


def names_of(flag: click.Option) -> str:
    shown = flag.metavar
    if shown is None and isinstance(flag.type, click.Choice):
        shown = "|".join(flag.type.choices)
    elif shown is None and not (flag.is_flag or flag.count):
        shown = flag.type.name.upper()
    names = ", ".join(f"`{name}`" for name in (*flag.opts, *flag.secondary_opts))
    return f"{names} `{shown}`".replace("|", "\\|") if shown else names


def default_of(flag: click.Option) -> str:
    if isinstance(flag.show_default, str):
        return flag.show_default
    value = flag.default
    # click's own mark for "none was given" is a member of an enum of its own.
    if value is None or value is False or callable(value) or isinstance(value, enum.Enum):
        return ""
    if flag.type.name == "duration" and not isinstance(value, str):
        value = show_duration(value)
    return f"`{value}`"


def in_table(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")
