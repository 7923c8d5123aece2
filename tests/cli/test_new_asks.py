"""What `asyncjobs new` and `generate` ask on a terminal, and what they do with the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from asyncjobs.cli.command import cli
from asyncjobs.cli.new import command
from asyncjobs.cli.shared import files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, on a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "can_ask", lambda: True)
    monkeypatch.setattr(files, "can_ask", lambda: True)
    return tmp_path


def answer(text: str, *args: str) -> Result:
    return CliRunner().invoke(cli, args, input=text, prog_name="asyncjobs")


@pytest.mark.parametrize(
    ("text", "file"), [("fastapi\n", "web.py"), ("django\n", "views.py"), ("\n", "__main__.py")]
)
def test_which_kind_of_project(folder: Path, text: str, file: str) -> None:
    assert answer(text, "new", "shop").exit_code == 0
    assert (folder / "shop" / "shop" / file).exists()


@pytest.mark.parametrize(("text", "code"), [("n\n", 1), ("", 1), ("y\n", 0)])
def test_whether_files_are_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int
) -> None:
    assert answer("", "new", "shop", "--plain").exit_code == 0
    monkeypatch.chdir(folder / "shop")
    module = Path("shop/jobs/send_welcome.py")
    module.write_text("mine = 1\n")
    done = answer(text, "generate", "job", "send_welcome")
    assert done.exit_code == code
    assert "Replace shop/jobs/send_welcome.py, tests/test_send_welcome.py?" in done.output
    assert (module.read_text() == "mine = 1\n") == (code == 1)
