"""From APP to the app: what is found, and what a user reads when it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncjobs.cli.shared.loading import LoadError, load_app
from tests.cli.conftest import Start

Write = Callable[[str, str], None]

APP = "from asyncjobs import AsyncJobs\napp = AsyncJobs('memory:')\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into the working directory; forgotten again after the test."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def module(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    yield module
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def refused(text: str, *, factory: bool = False) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load_app(text, factory=factory)
    return caught.value


@pytest.mark.parametrize(
    ("spec", "factory"),
    [
        ("shop.tasks:app", False),
        ("shop.tasks", False),
        ("shop.tasks:", False),
        ("shop.tasks:Box.app", False),
        ("shop.tasks:make", True),
        ("shop.tasks:Maker", True),
    ],
)
def test_found(write: Write, spec: str, factory: bool) -> None:
    more = (
        "class Box:\n    app = app\n"
        "def make():\n    return app\n"
        "class Maker:\n    def __new__(cls):\n        return app\n"
    )
    write("shop/__init__.py", "")
    write("shop/tasks.py", APP + more)
    assert load_app(spec, factory=factory) is sys.modules["shop.tasks"].app


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (":app", "':app' names no module; write module:attribute, as in tasks:app"),
        ("shop/tasks.py:app", "'shop/tasks.py' is a file, not a module; write shop.tasks:app"),
        ("tasks.py", "'tasks.py' is a file, not a module; write tasks:app"),
        ("../tasks.py:app", "'../tasks.py' is a file, not a module; change to its folder"),
        (".tasks:app", "'.tasks' is not a module name; write it in full"),
        ("shop.taks:app", "no module 'shop.taks' in package 'shop'; did you mean 'shop.tasks'?"),
        ("shpo.tasks:app", "did you mean 'shop'?"),
        ("zzz:app", "no module 'zzz' in the working directory"),
        ("shop.tasks.app", "no module 'shop.tasks.app'; did you mean shop.tasks:app?"),
        ("shop.tasks.deep.er:app", "'shop.tasks' is a module, not a package"),
        ("shop.tasks:ap", "module 'shop.tasks' has no attribute 'ap'; did you mean 'app'?"),
        ("shop.tasks:celery", "no attribute 'celery'; its AsyncJobs write shop.tasks:app"),
        ("shop.tasks:Box.aqp", "object 'shop.tasks.Box' has no attribute 'aqp'"),
        ("shop.empty", "module 'shop.empty' has no AsyncJobs; write app = AsyncJobs(...)"),
        ("shop.two", "has several AsyncJobs: write shop.two:app or shop.two:other"),
        ("shop.tasks:number", "shop.tasks:number is not an AsyncJobs but an int"),
        ("shop.tasks:nothing", "shop.tasks:nothing is not an AsyncJobs but None"),
        ("shop.tasks:make", "not an AsyncJobs but a function; if it returns one when called, add"),
        ("shop.tasks:Box", "is not an AsyncJobs but the class Box"),
        ("shop.tasks:send", "shop.tasks:send is a job function; APP is the AsyncJobs"),
    ],
)
def test_refused_with_the_name_and_the_nearest(write: Write, spec: str, expected: str) -> None:
    write("shop/__init__.py", "")
    write("shop/empty.py", "")
    write("shop/two.py", APP + "other = AsyncJobs('memory:')\nsame = other\n")
    write(
        "shop/tasks.py",
        APP + "number, nothing = 1, None\n"
        "class Box:\n    pass\n"
        "def make():\n    return app\n"
        "@app.job\nasync def send() -> None: ...\n",
    )
    error = refused(spec)
    assert expected in str(error)
    assert error.traceback == ""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("made", "names no function; with --factory write made:NAME"),
        ("made:app", "made:app is an AsyncJobs, not a function; leave out --factory"),
        ("made:number", "made:number is an int, which --factory cannot call"),
        ("made:slow", "made:slow is an async function; --factory needs a plain one"),
        ("made:none", "the factory made:none returned None, no AsyncJobs"),
        ("made:needs", "the factory made:needs failed: TypeError"),
        ("made:fails", "the factory made:fails failed: KeyError: 'HOME_OF_TASKS'"),
    ],
)
def test_factory_refused(write: Write, spec: str, expected: str) -> None:
    write(
        "made.py",
        APP + "number = 1\n"
        "async def slow():\n    return app\n"
        "def none():\n    return None\n"
        "def needs(url):\n    return app\n"
        "def fails():\n    return {}['HOME_OF_TASKS']\n",
    )
    error = refused(spec, factory=True)
    assert expected in str(error)
    assert ("in fails" in error.traceback) == (spec == "made:fails")


def frames(error: LoadError) -> list[str]:
    return [
        line.split('"')[1] for line in error.traceback.splitlines() if line.startswith("  File")
    ]


def test_an_import_error_shows_the_users_frames_only(write: Write, tmp_path: Path) -> None:
    write("shop/__init__.py", "")
    write("shop/tasks.py", "from shop import settings\n")
    write("shop/settings.py", "def read():\n    return 1 / 0\n\nread()\n")
    error = refused("shop.tasks:app")
    assert str(error) == (
        "module 'shop.tasks' cannot be imported: ZeroDivisionError: division by zero"
    )
    settings = str(tmp_path / "shop/settings.py")
    assert frames(error) == [str(tmp_path / "shop/tasks.py"), settings, settings]
    assert error.traceback.startswith("Traceback (most recent call last):")
    assert error.traceback.endswith("ZeroDivisionError: division by zero")


def test_a_module_that_the_users_module_needs_is_not_taken_for_app(
    write: Write, tmp_path: Path
) -> None:
    write("tasks_a.py", "import a_package_nobody_has\n")
    error = refused("tasks_a:app")
    assert "ModuleNotFoundError: No module named 'a_package_nobody_has'" in str(error)
    assert frames(error) == [str(tmp_path / "tasks_a.py")]


def test_an_error_of_ours_points_at_the_users_line(write: Write, tmp_path: Path) -> None:
    write("tasks_b.py", APP + "@app.job(queue='no good')\nasync def send() -> None: ...\n")
    error = refused("tasks_b:app")
    assert frames(error) == [str(tmp_path / "tasks_b.py")]
    assert "queue='no good' is not a queue name" in error.traceback


def test_causes_are_shown_without_our_frames_too(write: Write, tmp_path: Path) -> None:
    write(
        "tasks_c.py",
        APP + "try:\n    app.job(3)\nexcept Exception as error:\n"
        "    raise RuntimeError('set-up failed') from error\n",
    )
    error = refused("tasks_c:app")
    assert frames(error) == [str(tmp_path / "tasks_c.py")] * 2
    assert "direct cause" in error.traceback


def test_a_syntax_error_shows_the_line(write: Write, tmp_path: Path) -> None:
    write("tasks_d.py", "def broken(:\n    pass\n")
    error = refused("tasks_d:app")
    assert "SyntaxError" in str(error)
    assert "def broken(:" in error.traceback
    assert frames(error) == [str(tmp_path / "tasks_d.py")]


def test_a_module_that_exits_is_reported(write: Write) -> None:
    write("script.py", "import sys\nsys.exit(7)\n")
    error = refused("script:app")
    assert "'script' ends the program when it is imported (sys.exit(7))" in str(error)
    assert '__name__ == "__main__"' in str(error)


def test_the_command_exits_2_with_the_traceback(run: Start, folder: Path) -> None:
    (folder / "broken.py").write_text("def read():\n    return 1 / 0\n\nread()\n")
    process = run("worker", "broken:app")
    assert process.end() == 2
    told = process.text
    assert told.startswith("Traceback (most recent call last):")
    assert f'File "{folder / "broken.py"}", line 2, in read' in told
    assert "importlib" not in told
    assert "asyncjobs/cli" not in told
    assert told.endswith(
        "Error: APP 'broken:app': module 'broken' cannot be imported: "
        "ZeroDivisionError: division by zero\n"
    )


def test_the_command_exits_2_and_suggests_the_nearest(run: Start) -> None:
    module, attribute = run("worker", "taks:app"), run("worker", "tasks:aap")
    assert (module.end(), attribute.end()) == (2, 2)
    assert "did you mean 'tasks'?" in module.text
    assert "module 'tasks' has no attribute 'aap'; did you mean 'app'?" in attribute.text
    assert "Traceback" not in module.text + attribute.text
