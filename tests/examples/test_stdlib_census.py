"""examples/stdlib_census: what it counts, and a whole run with its numbers."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from examples.stdlib_census import files, tasks
from tests.examples.kit import at_work, loaded
from tests.kit.waiting import is_alive

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "stdlib_census"
LIMIT_S = 60

SOURCE = textwrap.dedent(
    '''
    import os, sys
    from pathlib import Path

    class Outer:
        """Holds a class."""
        class Inner:
            async def wait(self):
                import asyncio
                return await asyncio.sleep(0)

        @property
        def short(self): return lambda: 1

    def long():
        a = 1
        b = 2
        def inner():
            return a
        return inner() + b
    '''
).encode()


# Counting


def test_counts_definitions_and_imports() -> None:
    census = tasks.count(SOURCE, "some.py", attempt=3)
    longest = census.pop("longest")  # type: ignore[misc]
    assert census == {
        "lines": 20,
        "functions": 3,
        "coroutines": 1,
        "classes": 2,
        "imports": 3,
        "attempt": 3,
        "queued_ms": None,
        "ran_ms": 0.0,
    }
    assert [(item["name"], item["line"], item["lines"]) for item in longest] == [
        ("long", 15, 6),
        ("Outer.Inner.wait", 8, 3),
        ("long.inner", 18, 2),
        ("Outer.short", 13, 1),
    ]


def test_reports_no_more_than_the_longest() -> None:
    source = "".join(f"def f{i}():\n" + "    x = 1\n" * i for i in range(1, 30))
    longest = tasks.count(source.encode(), "many.py")["longest"]
    assert [item["lines"] for item in longest] == list(range(30, 20, -1))


def test_an_empty_file_holds_nothing() -> None:
    census = tasks.count(b"", "empty.py")
    assert (census["lines"], census["functions"], census["longest"]) == (0, 0, [])


def test_a_file_may_declare_its_encoding() -> None:
    source = "# coding: latin-1\ndef café(): pass\n".encode("latin-1")
    assert tasks.count(source, "old.py")["longest"][0]["name"] == "café"


@pytest.mark.parametrize(
    "source",
    [b"print 'two'\n", b"\xff\n", b"a = '\x00'\n", b"# coding: uft-8\n"],
    ids=["syntax", "encoding", "null byte", "unknown encoding"],
)
def test_what_does_not_parse_is_an_error_that_discards(source: bytes) -> None:
    discarding = tasks.census_file.settings.discard_on
    with pytest.raises(discarding):
        tasks.count(source, "bad.py")


def test_the_fault_is_planted_in_few_jobs() -> None:
    hit = [number for number in range(4_000) if tasks.has_planted_fault(f"{number}.py")]
    assert 50 < len(hit) < 200


@pytest.mark.anyio
async def test_a_plain_call_counts_a_file(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_bytes(SOURCE)
    census = await tasks.census_file(str(path))
    assert (census["functions"], census["attempt"]) == (3, 1)


# Files and ids


def test_finds_python_files_and_no_installed_packages(tmp_path: Path) -> None:
    for name in ("b.py", "a/c.py", "a/note.txt", "site-packages/x.py", "a/__pycache__/y.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.py").mkdir()
    found = files.python_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/c.py", "b.py"]


def test_a_job_id_is_the_path_made_printable() -> None:
    root = Path("root")
    assert files.job_id(root / "email" / "header.py", root) == "email/header.py"
    assert files.job_id(root / "my file\n.py", root) == "my%20file%0A.py"
    long = [files.job_id(root / ("x" * 300 + end), root) for end in ("1.py", "2.py")]
    assert len(set(long)) == 2
    for name in long:
        tasks.census_file.options(id=name)


def test_urgent_is_what_others_import() -> None:
    root = Path("root")
    places = ("ast.py", "email/header.py", "test/test_ast.py", "idlelib/idle_test/x.py")
    assert [files.priority(root / place, root) for place in places] == [
        "high",
        "normal",
        "low",
        "low",
    ]


# Whole runs


def environment(*folders: Path) -> dict[str, str]:
    path = os.pathsep.join(str(folder) for folder in (*folders, ROOT))
    # A setting of the user's own worker, which the example keeps away from its worker.
    return {**os.environ, "PYTHONPATH": path, "ASYNCJOBS_WORKER_CONCURRENCY": "none"}


def census(*args: str | Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *map(str, args)],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def census_at_work(*before: str) -> AbstractContextManager[tuple[subprocess.Popen[str], int]]:
    """A run over the whole standard library, and the pid of its worker."""
    return at_work([*before, sys.executable, str(EXAMPLE)], environment())


def numbers(output: str) -> dict[str, str]:
    """The rows of the summary: name and value."""
    return dict(re.findall(r"^  +(\w[\w/ ]*?) {2,}([\d,]+)(?: |$)", output, re.MULTILINE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files: two in order, two that do not parse, one with a planted fault."""
    tree = tmp_path / "tree"
    flaky = next(name for i in range(1_000) if tasks.has_planted_fault(name := f"flaky{i}.py"))
    steady = next(n for i in range(1_000) if not tasks.has_planted_fault(n := f"one%20{i}.py"))
    (tree / "below").mkdir(parents=True)
    (tree / steady.replace("%20", " ")).write_bytes(SOURCE)
    (tree / "below" / "__init__.py").write_bytes(b"")
    (tree / "below" / "bad.py").write_text("print 'two'\n")
    (tree / "below" / "null.py").write_bytes(b"a = '\x00'\n")
    (tree / flaky).write_text("async def f():\n    pass\n")
    return tree


def test_a_run_accounts_for_every_file(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = census("--folder", folder, "--log", log, env=environment())
    assert done.stderr == ""
    assert done.returncode == 0
    found = numbers(done.stdout)
    expected = {
        "jobs": "5",
        "succeeded": "3",
        "discarded": "2",
        "unaccounted for": "0",
        "retried": "1",
        "lines": "22",
        "functions": "3",
        "coroutines": "2",
        "classes": "2",
        "imports": "3",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "failed attempts 1, planted faults 1" in done.stdout
    assert re.search(r"^Discarded \(2\)\n  below/bad\.py  SyntaxError: ", done.stdout, re.MULTILINE)
    assert re.search(r"^  below/null\.py  (SyntaxError|ValueError): ", done.stdout, re.MULTILINE)
    times = done.stdout.partition("Times, ms")[2].splitlines()[1:3]
    assert [row.split()[:2] for row in times] == [["high", "2"], ["normal", "1"]]
    assert all(float(cell.replace(",", "")) >= 0 for row in times for cell in row.split()[2:])
    assert re.match(
        r"plain     a plain loop would take \d+\.\d s, by 5 files\nstore     valkey ", done.stdout
    )
    row = r"^  plain loop, s +\d+\.\d  estimated from 5 files; the worker took \d+\.\d s$"
    assert re.search(row, done.stdout, re.MULTILINE)
    assert "What to try next\n" in done.stdout
    table = done.stdout.partition("The longest functions\n")[2].splitlines()
    assert table[1].split()[:2] == ["6", "long"]
    assert "PlantedFault" in log.read_text()
    assert "\x1b" not in done.stdout + log.read_text()


def test_a_terminal_sees_a_live_bar(folder: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE), "--folder", str(folder)],
        env={**environment(), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # on Linux the end of a terminal is an error
        pass
    finally:
        os.close(master)
        assert process.wait(timeout=LIMIT_S) == 0
    assert b"100%" in shown
    assert b"What to try next" in shown


def test_a_limit_takes_the_first_files(folder: Path) -> None:
    args = ("--limit", "2", "--concurrency", "1", "--processes", "1")
    done = census("--folder", folder, *args, env=environment())
    assert (done.returncode, done.stderr) == (0, "")
    found = numbers(done.stdout)
    assert (found["jobs"], found["processes"]) == ("2", "1")


def test_it_runs_as_many_processes_as_there_are_cores(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = census("--folder", folder, "--log", log, env=environment())
    assert done.returncode == 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert numbers(done.stdout)["processes"] == str(cores)
    row = r"^  in threads, s +\d+\.\d  estimated; \d+ threads share one lock"
    assert re.search(row, done.stdout, re.MULTILINE)


def test_a_plain_loop_is_estimated_by_size(tmp_path: Path) -> None:
    paths = []
    for number in range(300):
        path = tmp_path / f"{number}.py"
        path.write_text("x = 1\n" * (number % 7) + ("print 'two'" if number % 50 == 0 else ""))
        paths.append(path)
    with loaded(EXAMPLE, "plain") as (plain,):
        found = plain.plain_loop(paths, 2)
    assert found.counted == 60
    assert found.seconds > 0
    assert found.threaded > 0


def test_a_worker_that_cannot_run_is_shown_and_fails(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\nif 'worker' in sys.orig_argv: sys.exit('no worker on this machine')\n"
    )
    done = census("--folder", folder, env=environment(broken))
    assert done.returncode == 1
    assert numbers(done.stdout)["unaccounted for"] == "5"
    assert "Unaccounted for (5)" in done.stdout
    assert "the worker ended with exit code 1" in done.stderr
    assert "no worker on this machine" in done.stderr


def test_a_worker_that_is_killed_leaves_jobs_unaccounted_for() -> None:
    with census_at_work() as (process, worker):
        os.kill(worker, signal.SIGKILL)
        output, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 1
    found = {name: int(value.replace(",", "")) for name, value in numbers(output).items()}
    assert found["unaccounted for"] > 0
    ended = found["succeeded"] + found.get("discarded", 0)
    assert ended + found["unaccounted for"] == found["jobs"]
    assert "the worker was killed by signal 9" in errors


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_an_interrupt_stops_the_worker_too(how: signal.Signals) -> None:
    with census_at_work() as (process, worker):
        process.send_signal(how)
        _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 130
    assert errors == "interrupted; worker and server are stopped\n"
    assert not is_alive(worker)


def test_one_in_the_background_is_stopped_by_sigterm() -> None:
    in_background = "sh", "-c", "trap '' INT; exec \"$@\"", "sh"
    with census_at_work(*in_background) as (process, _):
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, errors.startswith("interrupted; ")) == (130, True)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--limit", "0"), "0 is below 1"),
        (("--folder", "not-there"), "not-there is no folder"),
        (("--server", "postgres"), "invalid choice"),
    ],
)
def test_a_wrong_option_is_named(args: tuple[str, ...], text: str) -> None:
    done = census(*args, env=environment())
    assert done.returncode == 2
    assert text in done.stderr


def test_a_folder_without_python_files_is_named(tmp_path: Path) -> None:
    done = census("--folder", tmp_path, env=environment())
    assert done.returncode == 2
    assert f"no .py file in {tmp_path}" in done.stderr
