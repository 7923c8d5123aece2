"""`asyncjobs new` and `asyncjobs generate job`: what they write works, and harms nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from asyncjobs.cli.new import source
from asyncjobs.cli.shared.files import write_all
from asyncjobs.cli.shared.naming import package_name, snake_case
from tests.cli.operator import Ended, operate
from tests.kit.environment import environment

BIN = Path(sys.executable).parent
VARIANTS = ["plain", "fastapi", "django"]


def run(folder: Path, *command: str | Path) -> str:
    """The output of a program in the folder; it must end with 0."""
    env = environment({"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"})
    env.pop("PYTHONWARNINGS", None)
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def wrote(done: Ended) -> str:
    assert (done.code, done.err) == (0, "")
    return done.out


def texts(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.fixture(params=VARIANTS)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project of each variant, with a job of each kind that can be generated."""
    wrote(operate(tmp_path, "new", "web-shop", f"--{request.param}"))
    folder = tmp_path / "web-shop"
    long = "send_a_very_long_letter_to_all_of_our_customers_now"[:50]
    for args in (
        ["SendMail", "--queue", "mail"],
        ["nightly", "--cron", "30 2 * * 1", "--sync", "--queue", "bulk"],
        ["yearly", "--cron", "@yearly"],
        ["a-first"],
        [long, "--queue", "q" * 60, "--cron", ",".join(map(str, range(40))) + " * * * *"],
    ):
        wrote(operate(folder, "generate", "job", *args))
    return folder


def test_what_is_written_passes_its_own_checks(project: Path) -> None:
    out = run(project, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "passed" in out
    run(project, BIN / "ruff", "check", "--no-cache", ".")
    run(project, BIN / "ruff", "format", "--no-cache", "--check", ".")
    run(project, BIN / "mypy")
    if (BIN / "pyright").exists():
        run(project, BIN / "pyright", "--pythonpath", sys.executable)
    target = "web_shop.jobs:app"
    if (project / "manage.py").exists():
        target = "web_shop.worker:make_app"
    out = run(project, sys.executable, "-c", NAMES, target)
    for name in ("a_first", "nightly", "send_mail", "send_welcome", "yearly"):
        assert f"web_shop.jobs.{name}.{name}" in out


NAMES = """
import sys
from asyncjobs.cli.shared.loading import load_app, put_working_directory_on_path

put_working_directory_on_path()
app = load_app(sys.argv[1], factory=sys.argv[1].endswith("make_app"))
print(*(function.name for function in app.registry.functions()))
"""


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    wrote(operate(tmp_path, "new", "web-shop"))
    folder = tmp_path / "web-shop"
    wrote(operate(folder, "generate", "job", "send_mail"))
    (folder / "web_shop" / "jobs" / "send_mail.py").write_text("mine = 1\n")
    (folder / "README.md").unlink()
    before = texts(folder)
    again = operate(tmp_path, "new", "web-shop")
    job = operate(folder, "generate", "job", "send_mail", "--queue", "mail")
    assert (again.code, job.code) == (1, 1)
    assert "web-shop/Makefile" in again.err
    assert "README.md" not in again.err
    assert "web_shop/jobs/send_mail.py, tests/test_send_mail.py" in job.err
    assert "--force" in again.err
    assert "--force" in job.err
    assert texts(folder) == before
    wrote(operate(folder, "generate", "job", "send_mail", "--queue", "mail", "--force"))
    assert 'queue="mail"' in (folder / "web_shop" / "jobs" / "send_mail.py").read_text()
    index = (folder / "web_shop" / "jobs" / "__init__.py").read_text()
    assert index.count("send_mail as send_mail") == 1


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["class"], "no name for Python code"),
        (["../evil"], "no name for Python code"),
        (["9lives"], "no name for Python code"),
        (["x" * 51], "longer than 50"),
        (["send_mail", "--cron", "61 * * * *"], "cron expression"),
        (["send_mail", "--cron", "0 0 31 2 *"], "cron expression"),
        (["send_mail", "--queue", 'a"b'], "queue"),
    ],
)
def test_wrong_usage_writes_nothing(tmp_path: Path, args: list[str], reason: str) -> None:
    wrote(operate(tmp_path, "new", "web-shop"))
    before = texts(tmp_path)
    done = operate(tmp_path / "web-shop", "generate", "job", *args)
    assert done.code == 2
    assert reason in done.err
    assert texts(tmp_path) == before


@pytest.mark.parametrize("name", ["json", "asyncjobs", "tests", "a/b", ".", "import"])
def test_a_project_may_not_hide_a_package(tmp_path: Path, name: str) -> None:
    assert operate(tmp_path, "new", name).code == 2
    assert texts(tmp_path) == {}


def test_without_a_project_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = operate(tmp_path, "generate", "job", "send_mail")
    assert done.code == 1
    assert "asyncjobs new" in done.err
    assert "[tool.asyncjobs]" in done.err


def test_a_project_is_found_from_a_folder_inside_and_by_its_jobs(tmp_path: Path) -> None:
    wrote(operate(tmp_path, "new", "web-shop"))
    folder = tmp_path / "web-shop"
    wrote(operate(folder / "web_shop", "generate", "job", "one"))
    (folder / "pyproject.toml").unlink()
    wrote(operate(folder, "generate", "job", "two"))
    for name in ("one", "two"):
        text = (folder / "web_shop" / "jobs" / f"{name}.py").read_text()
        assert "from web_shop.app import app\n" in text
        assert (folder / "tests" / f"test_{name}.py").exists()


def test_a_folder_outside_of_the_project_is_refused(tmp_path: Path) -> None:
    table = '[tool.asyncjobs]\napp = "a.b:app"\njobs = "../jobs"\ntests = "tests"\n'
    (tmp_path / "pyproject.toml").write_text(table)
    done = operate(tmp_path, "generate", "job", "one")
    assert done.code == 1
    assert "folders of the project" in done.err
    assert not (tmp_path.parent / "jobs").exists()


def test_what_fails_in_the_middle_leaves_all_as_it_was(tmp_path: Path) -> None:
    old = tmp_path / "old.py"
    old.write_text("old\n")
    (tmp_path / "file").write_text("")
    new = {
        old: "new\n",
        tmp_path / "a" / "b" / "c.py": "c\n",
        tmp_path / "file" / "d.py": "d\n",
    }
    with pytest.raises(click.ClickException, match=r"file.d\.py"):
        write_all(new)
    assert texts(tmp_path) == {"old.py": "old\n", "file": ""}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "old.py"]


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("")
    program.chmod(0o750)
    write_all({program: "new\n"})
    assert program.stat().st_mode & 0o777 == 0o750
    assert os.listdir(tmp_path) == ["program.py"]


@pytest.mark.parametrize(
    ("text", "name"),
    [("SendMail", "send_mail"), ("send-mail", "send_mail"), ("HTTPPing2", "http_ping2")],
)
def test_names_become_names_of_python(text: str, name: str) -> None:
    assert snake_case(text) == name
    assert package_name(text) == name


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        (None, ""),
        ('{"url": "file:///a%20b/c\'d$e", "dir_info": {}}', "file:///a%20b/c%27d%24e"),
        (
            '{"url": "https://example.org/a.git", "vcs_info": {"vcs": "git", "commit_id": "f00"}}',
            "git+https://example.org/a.git@f00",
        ),
    ],
)
def test_a_project_gets_the_asyncjobs_that_made_it(
    monkeypatch: pytest.MonkeyPatch, noted: str | None, expected: str
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return noted

    monkeypatch.setattr(source, "distribution", lambda name: Installed())
    assert source.installed_from() == expected
