"""`asyncjobs completion SHELL`: the script with which a shell completes the commands."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

__all__ = ["completion"]

_EPILOG = """\b
To install it for good:
  bash  asyncjobs completion bash > ~/.local/share/bash-completion/completions/asyncjobs
  zsh   asyncjobs completion zsh > a file _asyncjobs in a folder of $fpath
  fish  asyncjobs completion fish > ~/.config/fish/completions/asyncjobs.fish
"""
PROGRAM = "asyncjobs"
VARIABLE = "_ASYNCJOBS_COMPLETE"
"""The variable through which the shell asks click for completions. Its name follows PROGRAM."""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example, for this session: source <(asyncjobs completion bash)
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no shell {shell!r}", ctx)
    made = kind(ctx.find_root().command, {}, PROGRAM, VARIABLE)
    # The method of the base class. The one for bash starts a bash to check its version, and there
    # may be none, as in the build of a package.
    click.echo(ShellComplete.source(made))
