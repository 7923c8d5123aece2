"""A page's code blocks, and a folder in which they run one after the other.

What a block is, its language says:

- `python` whose first line is a comment with a file's name (`# tasks.py`) is written to
  that file and imported; any other one is run as a program, and when it defines `main()`
  without calling it, that is done for it.
  A file that cannot be imported here is only written:
  `<!-- docs: only written: why -->` in the line before.
- `console`: lines after `$ ` are commands; what follows is what they show. Shown lines
  must come in this order, `…` stands for anything. A last line `^C` means that the
  command goes on: the page goes on as soon as everything shown has come, and it is
  stopped by Ctrl-C where the page says `<!-- docs: stop -->`, or at its end, and must end
  with 0.
- any other language is text to be read, and stands under a reason, as does whatever
  cannot run here: `<!-- docs: not run: why -->` in the line before the block.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.kit.environment import environment
from tests.kit.program import Program

__all__ = ["Block", "Running", "Workshop", "blocks_of", "missing_line"]

LIMIT_S: Final = 60.0
"""How long a block may take; reached only when it fails."""

_BLOCK: Final = re.compile(
    r"(?:^<!-- docs: (?P<note>[^\n]*?) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$"
    r"|^<!-- docs: (?P<stop>stop) -->$",
    re.MULTILINE | re.DOTALL,
)
_FILE: Final = re.compile(r"# ((?:[\w-]+/)*[\w-]+\.py)\n")


@dataclass(frozen=True)
class Block:
    """One fenced block; `reason` says why it does not run, or is empty."""

    page: str
    line: int
    language: str
    text: str
    reason: str = ""
    is_imported: bool = True

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path, name: str) -> Iterator[Block]:
    """The blocks in their order; `stop` stands among them as a language of its own."""
    source = page.read_text()
    fences = len(re.findall(r"^\s*(?:```|~~~)", source, re.MULTILINE))
    found = list(_BLOCK.finditer(source))
    assert fences == 2 * sum(1 for match in found if not match["stop"]), (
        f"{name}: a fence that is indented, or not closed, would not be run"
    )
    for match in found:
        line = source.count("\n", 0, match.start()) + 1
        if match["stop"]:
            yield Block(name, line, "stop", "")
            continue
        note = match["note"] or ""
        if re.match("only written: .", note):
            yield Block(name, line, match["language"], match["text"], is_imported=False)
            continue
        reason = note.removeprefix("not run: ")
        assert not note or (reason != note and reason), f"{name}:{line}: unknown note {note!r}"
        yield Block(name, line, match["language"], match["text"], reason)


def missing_line(shown: list[str], output: str) -> str | None:
    """The first shown line that the output does not have, in order; `…` is anything."""
    position = 0
    lines = output.splitlines()
    for line in shown:
        words = line.split()
        if not words or words == ["…"]:
            continue
        parts = (re.escape(part.strip()) for part in " ".join(words).split("…"))
        pattern = re.compile(r"\s*.*?\s*".join(parts))
        for number in range(position, len(lines)):
            if pattern.fullmatch(" ".join(lines[number].split())):
                position = number + 1
                break
        else:
            return line
    return None


class Running(Program):
    """A command that goes on, and what it has written so far."""

    def __init__(self, command: str, folder: Path, env: dict[str, str]) -> None:
        super().__init__(shlex.split(command), folder, env, has_session=True)
        self.command = command

    def wait_for(self, shown: list[str]) -> None:
        """When every shown line has come."""
        text = self.wait_silent(lambda text: missing_line(shown, text) is None)
        missing = missing_line(shown, text)
        assert missing is None, f"$ {self.command}\nnot shown: {missing}\n{text}"

    def interrupt(self) -> None:
        self.send(signal.SIGINT)
        code = self.end()
        assert code == 0, f"$ {self.command}\nended with {code}\n{self.text}"


class Workshop:
    """A folder for the blocks of one page, with the embedded store of that folder.

    Owns what the page has started: it is ended when the workshop closes.
    """

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder = folder
        self._running: list[Running] = []
        programs = folder.parent / "bin"
        programs.mkdir()
        for name, call in (("python", ""), ("asyncjobs", " -m asyncjobs")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{call} "$@"\n')
            program.chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self.env = environment(
            {"PATH": path, "TMPDIR": str(temporary), "PYTHONPATH": "", "NO_COLOR": "1"}
        )
        # The package from this checkout, the page's files from the working directory.
        self.env["PYTHONPATH"] = os.pathsep.join([str(folder), environment({})["PYTHONPATH"]])
        # A project has one plugin for async tests, or none. All of them are installed here.
        self.env["PYTEST_ADDOPTS"] = "-p no:asyncio -p no:valkey -p no:cacheprovider"
        # As for a reader: in a terminal, where people read and not programs.
        self.env["ASYNCJOBS_WORKER_LOG_FORMAT"] = "console"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for command in self._running:
            command.close()

    def run(self, block: Block) -> None:
        """Run one block; an AssertionError says what it did instead."""
        if block.language == "python":
            self._run_python(block)
        elif block.language == "console":
            self._run_console(block)
        elif block.language == "stop":
            self.stop()
        else:
            raise AssertionError(f"a block of {block.language!r} runs only by a reason not to")

    def stop(self) -> None:
        """Ctrl-C for every command that goes on."""
        while self._running:
            command = self._running.pop()
            try:
                command.interrupt()
            finally:
                command.close()

    def _run_python(self, block: Block) -> None:
        text = block.text
        if match := _FILE.match(text):
            path = self.folder / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if not block.is_imported:
                return
            module = match[1].removesuffix(".py").replace("/", ".")
            self._call([sys.executable, "-c", f"import {module}"])
            return
        if re.search(r"^async def main\(\)", text, re.MULTILINE) and "run(main())" not in text:
            text += "\n\nimport asyncio\nasyncio.run(main())\n"
        program = self.folder / f"block_{block.line}.py"
        program.write_text(text)
        self._call([sys.executable, str(program)])

    def _call(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            # One after the other, as in a terminal.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        output = done.stdout
        assert done.returncode == 0, f"{command}\nended with {done.returncode}\n{output}"
        return output

    def _run_console(self, block: Block) -> None:
        parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
        assert not parts[0].strip(), "a console block starts with a command: $ ..."
        for part in parts[1:]:
            command, _, rest = part.replace("\\\n", " ").partition("\n")
            shown = rest.splitlines()
            if shown and shown[-1] == "^C":
                running = Running(command, self.folder, self.env)
                self._running.append(running)
                running.wait_for(shown[:-1])
                continue
            output = self._call(["/bin/sh", "-c", command])
            missing = missing_line(shown, output)
            assert missing is None, f"$ {command}\nnot shown: {missing}\n{output}"
