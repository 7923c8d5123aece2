from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobRegistry
from asyncjobs.errors import ArgumentsError, ConfigError, RegistrationError

ROOT = Path(__file__).parents[2]


async def one() -> None: ...
async def two() -> None: ...


def test_names_are_module_and_function_unless_given() -> None:
    registry = JobRegistry()
    plain = registry.job(one)
    named = registry.job(name="mail.two", aliases=["mail.old", "mail.older"])(two)
    assert plain.name == f"{__name__}.one"
    for name in ("mail.two", "mail.old", "mail.older"):
        assert registry.find(name) is named
    assert registry.find("nobody") is None
    assert registry.functions() == [plain, named]


def test_a_name_that_is_taken_is_an_error_naming_both_places() -> None:
    registry = JobRegistry()
    registry.job(name="a", aliases=["b"])(one)
    for options in ({"name": "a"}, {"name": "b"}, {"name": "c", "aliases": ["b"]}):
        with pytest.raises(RegistrationError) as caught:
            registry.job(**options)(two)  # type: ignore[arg-type]
        text = str(caught.value)
        assert text.count("test_registry.py:") == 2
        assert "name=" in text
    assert registry.find("c") is None


def test_queues() -> None:
    registry, inner = JobRegistry(), JobRegistry()
    registry.job(queue="mail")(one)
    inner.job(two)
    registry.include(inner)
    assert registry.queues() == {"mail", "default"}


def test_an_included_registry_shows_what_it_gets_later() -> None:
    app, middle, leaf = AsyncJobs("memory:"), JobRegistry(), JobRegistry()
    middle.include(leaf)
    app.include(middle)
    late = leaf.job(one)
    assert app.registry.find(late.name) is middle.find(late.name) is late
    with pytest.raises(RegistrationError, match="two job functions"):
        app.job(name=late.name)(two)
    app.include(middle)
    assert app.registry.functions() == [late]


def test_names_are_compared_when_registries_meet() -> None:
    app, other = AsyncJobs("memory:"), JobRegistry()
    app.job(name="a")(one)
    other.job(name="a")(two)
    with pytest.raises(RegistrationError, match="'a'"):
        app.include(other)
    assert other.find("a") is not None


def test_a_registry_belongs_to_one_app() -> None:
    first, second, registry = AsyncJobs("memory:"), AsyncJobs("memory:"), JobRegistry()
    first.include(registry)
    with pytest.raises(RegistrationError, match="one app only"):
        second.include(registry)
    with pytest.raises(RegistrationError, match="one app only"):
        second.include(first.registry)


def test_a_registry_cannot_include_itself() -> None:
    outer, inner = JobRegistry(), JobRegistry()
    outer.include(inner)
    with pytest.raises(RegistrationError):
        inner.include(outer)
    with pytest.raises(RegistrationError):
        outer.include(outer)
    with pytest.raises(RegistrationError):
        outer.include(AsyncJobs("memory:"))  # type: ignore[arg-type]


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


def bare_wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return function(*args)

    return call


@wrapped
def well_wrapped(a: int) -> int:
    return a


class Thing:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (generator, "is a generator"),
        (async_generator, "is a generator"),
        (lambda: 1, "is a lambda"),
        (Thing.method, "is a method"),
        (Thing().method, "is a method"),
        (Thing.static, "is a method"),
        (Thing(), "is not a plain function"),
        (print, "is not a plain function"),
        (functools.partial(one), "is not a plain function"),
        (Thing, "is not a plain function"),
        (bare_wrapper(one), "functools.wraps"),
        (wrapped(one), "make the wrapper async def"),
        (3, "is not a plain function"),
    ],
)
def test_what_cannot_be_a_job_function_is_refused_with_the_reason(function: Any, said: str) -> None:
    with pytest.raises(RegistrationError, match=said):
        JobRegistry().job(function)


def test_nested_functions_are_refused() -> None:
    def nested() -> None: ...

    with pytest.raises(RegistrationError, match=r"nested .* move it to module level"):
        JobRegistry().job(nested)


def test_a_job_function_is_not_registered_twice() -> None:
    registry = JobRegistry()
    job = registry.job(one)
    with pytest.raises(RegistrationError, match="already"):
        registry.job(job)


def test_a_decorated_function_keeps_its_parameters() -> None:
    job = JobRegistry().job(well_wrapped)
    assert job.name == f"{__name__}.well_wrapped"
    with pytest.raises(ArgumentsError, match=r"well_wrapped\(a"):
        job.binding.check((), {"nobody": 1})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queue": "a b"}, "queue"),
        ({"priority": "urgent"}, "priority"),
        ({"timeout": -1}, "timeout"),
        ({"retry": "5"}, "retry"),
        ({"discard_on": [3]}, "discard_on"),
        ({"discard_on": ValueError()}, "discard_on"),
        ({"result_ttl": "5m"}, "result_ttl"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"aliases": "old"}, "aliases"),
        ({"aliases": [""]}, "name"),
        ({"aliases": 3}, "aliases"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        JobRegistry().job(**options)(one)


SHARED = "from asyncjobs import JobRegistry\nregistry = JobRegistry()\n"
TASKS = "from shared import registry\n\n@registry.job\nasync def work() -> None: ...\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path with shared.py (a registry) and tasks.py (a job)."""
    (tmp_path / "shared.py").write_text(SHARED)
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("shared", "tasks"):
        sys.modules.pop(name, None)


def test_a_reloaded_module_takes_the_place_of_itself(modules: Path) -> None:
    shared, tasks = importlib.import_module("shared"), importlib.import_module("tasks")
    before = tasks.work
    importlib.reload(tasks)
    assert shared.registry.find("tasks.work") is tasks.work is not before
    assert shared.registry.functions() == [tasks.work]


def test_one_name_twice_in_one_module_is_an_error(modules: Path) -> None:
    again = "\n@registry.job\nasync def work() -> None: ...\n"
    (modules / "tasks.py").write_text(TASKS + again)
    with pytest.raises(RegistrationError, match=r"tasks\.py:3 and .*tasks\.py:6"):
        importlib.import_module("tasks")


PRINT = "\nprint(work.name)\n"


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": f"{ROOT}:{cwd}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_a_module_run_as_main_registers_under_its_importable_name(tmp_path: Path) -> None:
    package = tmp_path / "pkg" / "sub"
    package.mkdir(parents=True)
    for file in ("shared.py", "pkg/__init__.py", "pkg/sub/__init__.py"):
        (tmp_path / file).write_text(SHARED if file == "shared.py" else "")
    (tmp_path / "plain").mkdir()
    for file in ("tasks.py", "pkg/sub/tasks.py", "plain/tasks.py"):
        (tmp_path / file).write_text(TASKS + PRINT)
    assert run("tasks.py", cwd=tmp_path) == "tasks.work"
    assert run("-m", "pkg.sub.tasks", cwd=tmp_path) == "pkg.sub.tasks.work"
    assert run("pkg/sub/tasks.py", cwd=tmp_path) == "pkg.sub.tasks.work"
    assert run("plain/tasks.py", cwd=tmp_path) == "plain.tasks.work"


def test_a_module_both_run_and_imported_is_no_clash(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    (tmp_path / "tasks.py").write_text(
        TASKS + "\nimport tasks\nprint(tasks.work.name, work.name)\n"
    )
    assert run("tasks.py", cwd=tmp_path).endswith("tasks.work tasks.work")
