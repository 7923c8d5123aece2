"""`asyncjobs worker` in a process of its own: banner, modes, environment, exit codes."""

from __future__ import annotations

import importlib.util
import signal
import socket
from contextlib import closing
from pathlib import Path

import asyncjobs
from asyncjobs.testing.servers import Server, start_server
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger, Process


def stop(process: Process) -> int:
    process.send(signal.SIGTERM)
    return process.end()


def closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# ── the banner ───────────────────────────────────────────────────────────────────────


def test_banner_as_text(work: Start, server: Server) -> None:
    process = work("--log-format", "console", "--queues", "mail:3,default", "--concurrency", "2000")
    process.wait_started()
    assert stop(process) == 0
    lines = process.text.splitlines()
    assert lines[0].startswith(f"asyncjobs {asyncjobs.__version__}, worker ")
    rows = {line[2:14].strip(): line[15:] for line in lines[1:7]}
    assert rows["store"] == f"valkey {server.version} at {server.url}/0"
    assert rows["queues"] == "mail (weight 3), default"
    assert rows["functions"].startswith("tasks.nap, tasks.send, tasks.say, tasks.fail")
    assert rows["concurrency"] == "2,000 jobs at a time"
    assert rows["grace"] == "30s"
    assert rows["process"].startswith(f"pid {process.process.pid}, Python 3.")
    assert process.text.count("asyncjobs " + asyncjobs.__version__) == 1


def test_banner_as_one_json_line(work: Start, server: Server) -> None:
    process = work("--name", "blue-1", "--grace", "1500ms")
    process.wait_started()
    assert stop(process) == 0
    banner = process.record("worker started")
    assert banner["version"] == asyncjobs.__version__
    assert banner["worker"] == "blue-1"
    assert (banner["store"], banner["store_version"]) == ("valkey", server.version)
    assert banner["store_address"] == f"{server.url}/0"
    assert banner["queues"] == {"default": 1, "mail": 1}
    assert "tasks.send" in banner["functions"]
    assert (banner["concurrency"], banner["grace_s"]) == (1000, 1.5)
    assert banner["pid"] == process.process.pid
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    assert banner["loop"] == ("uvloop" if has_uvloop else "asyncio")


def test_many_job_functions_are_cut_in_the_banner(work: Start, folder: Path) -> None:
    with (folder / "tasks.py").open("a") as tasks:
        tasks.write("for n in range(20):\n    app.job(name=f'more.f{n}')(send.function)\n")
    process = work("--burst", "--burst-wait", "0s", "--log-format", "console")
    assert process.end() == 0
    assert "tasks.block_loop, tasks.leave_thread, tasks.tell_crashes and 24 more\n" in process.text


def test_the_password_is_never_shown_and_warnings_are(run: Start) -> None:
    config = {"requirepass": "hush-hush", "maxmemory-policy": "volatile-lru"}
    with start_server("valkey", config=config) as server:
        right = run(
            "worker",
            "tasks:app",
            "--burst",
            "--burst-wait",
            "0s",
            env={"ASYNCJOBS_URL": server.url},
        )
        assert right.end() == 0
        (told,) = [record for record in right.records() if record["level"] == "warning"]
        assert "maxmemory-policy volatile-lru" in told["event"]
        wrong_url = server.url.replace("hush-hush", "wrong-word")
        wrong = run("worker", "tasks:app", env={"ASYNCJOBS_URL": wrong_url})
        assert wrong.end() == 2
        assert "refused the credentials" in wrong.text
    assert "hush-hush" not in right.text
    assert "wrong-word" not in wrong.text


def test_a_queue_nobody_names_is_pointed_out(work: Start) -> None:
    process = work("--queues", "mial,default,invoices", "--burst", "--burst-wait", "0s")
    assert process.end() == 0
    process.record("no job function here names queue 'mial'; did you mean 'mail'?")
    process.record(
        "no job function here names queue 'invoices'; they name default, mail, and "
        "options(queue=...) any other"
    )


def test_an_app_without_job_functions_is_pointed_out(
    run: Start, server: Server, folder: Path
) -> None:
    (folder / "bare.py").write_text("from asyncjobs import AsyncJobs\napp = AsyncJobs()\n")
    process = run(
        "worker", "bare", "--burst", "--burst-wait", "0s", env={"ASYNCJOBS_URL": server.url}
    )
    assert process.end() == 0
    assert "the app has no job functions; import the modules that define them" in process.text


def test_a_store_of_its_own_is_pointed_out(run: Start) -> None:
    env = {"ASYNCJOBS_URL": "memory:"}
    process = run("worker", "tasks:app", "--burst", "--burst-wait", "0s", env=env)
    assert process.end() == 0
    assert "jobs that other processes enqueue never arrive here" in process.text


# ── modes ────────────────────────────────────────────────────────────────────────────


def test_burst_runs_what_is_there_and_ends(work: Start, put: Put, ledger: Ledger) -> None:
    ids = put("nap", 0.01, number=20) + put("send", number=20)
    process = work("--burst", "--burst-wait", "0s")
    assert process.end() == 0
    assert sorted(id for id, _ in ledger.lines("ended") + ledger.lines("sent")) == sorted(ids)
    process.record("worker ended: 40 jobs taken, none released")


def test_max_jobs(work: Start, put: Put, ledger: Ledger) -> None:
    put("nap", 0, number=5)
    process = work("--max-jobs", "2")
    assert process.end() == 0
    assert len(ledger.lines("ended")) == 2
    process.record("worker ended: 2 jobs taken, none released")


def test_only_the_given_queues_are_worked(work: Start, put: Put, ledger: Ledger) -> None:
    put("send")
    put("nap", 0)
    assert work("--queues", "mail", "--burst", "--burst-wait", "0s").end() == 0
    assert (len(ledger.lines("sent")), len(ledger.lines("ended"))) == (1, 0)


def test_each_flag_as_a_variable(run: Start, server: Server, put: Put, ledger: Ledger) -> None:
    put("nap", 0, number=3)
    prefix = "ASYNCJOBS_WORKER_"
    env = {
        "ASYNCJOBS_URL": server.url,
        "ASYNCJOBS_APP": "tasks:app",
        f"{prefix}QUEUES": "mail:3,default:2",
        f"{prefix}CONCURRENCY": "7",
        f"{prefix}BURST": "true",
        f"{prefix}BURST_WAIT": "0s",
        f"{prefix}GRACE": "2s",
        f"{prefix}MAX_JOBS": "2",
        f"{prefix}THREADS": "3",
        f"{prefix}LEASE": "4s",
        f"{prefix}NAME": "from-env",
        f"{prefix}LOG_LEVEL": "INFO",
        f"{prefix}LOG_FORMAT": "json",
    }
    process = run("worker", env=env)
    assert process.end() == 0
    banner = process.record("worker started")
    assert banner["queues"] == {"mail": 3, "default": 2}
    assert (banner["concurrency"], banner["grace_s"], banner["worker"]) == (7, 2, "from-env")
    assert len(ledger.lines("ended")) == 2


def test_a_flag_beats_its_variable(work: Start) -> None:
    env = {"ASYNCJOBS_WORKER_CONCURRENCY": "7", "ASYNCJOBS_WORKER_BURST": "1"}
    process = work("--concurrency", "9", "--burst-wait", "0s", env=env)
    assert process.end() == 0
    assert process.record("worker started")["concurrency"] == 9


def test_factory_on_the_command_line(
    run: Start, server: Server, put: Put, ledger: Ledger, folder: Path
) -> None:
    (folder / "made.py").write_text("def make():\n    import tasks\n    return tasks.app\n")
    put("nap", 0)
    args = ("worker", "made:make", "--factory", "--burst", "--burst-wait", "0s")
    assert run(*args, env={"ASYNCJOBS_URL": server.url}).end() == 0
    assert len(ledger.lines("ended")) == 1


def test_a_failed_job_does_not_fail_the_worker(work: Start, put: Put) -> None:
    put("fail")
    assert work("--burst", "--burst-wait", "0s").end() == 0


# ── exit codes ───────────────────────────────────────────────────────────────────────


def test_1_when_the_worker_fails(run: Start, server: Server, folder: Path) -> None:
    (folder / "broken.py").write_text(
        "from asyncjobs.worker.engine.loop import Processor\n"
        "from tasks import app\n"
        "async def run(self):\n    raise RuntimeError('planted')\n"
        "Processor.run = run\n"
    )
    process = run("worker", "broken:app", env={"ASYNCJOBS_URL": server.url})
    assert process.end() == 1
    failure = process.record("the worker failed")
    assert failure["level"] == "critical"
    assert "RuntimeError: planted" in failure["exception"]


def test_2_for_a_store_url_that_cannot_work(run: Start) -> None:
    unknown = run("worker", "tasks:app", env={"ASYNCJOBS_URL": "reddis://localhost"})
    missing = run("worker", "tasks:app", env={"ASYNCJOBS_URL": "", "ASYNCJOBS_ENV": "production"})
    assert (unknown.end(), missing.end()) == (2, 2)
    (told,) = unknown.records()
    assert "unknown scheme 'reddis'; use one of redis://" in told["event"]
    (told,) = missing.records()
    assert "set ASYNCJOBS_URL=redis://localhost:6379" in told["event"]
    assert "exception" not in told


def test_2_for_a_flag_that_only_the_worker_can_judge(work: Start) -> None:
    process = work("--lease", "200ms")
    assert process.end() == 2
    (told,) = process.records()
    assert "lease must be a time from 1 s to 100 years, not 0.2" in told["event"]


def test_3_when_nothing_listens(run: Start) -> None:
    port = closed_port()
    # Not even the quietest level hides why the process is gone.
    process = run(
        "worker",
        "tasks:app",
        "--log-level",
        "critical",
        env={"ASYNCJOBS_URL": f"redis://:hush@127.0.0.1:{port}"},
    )
    assert process.end() == 3
    (told,) = process.records()
    assert told["level"] == "critical"
    assert f"redis://127.0.0.1:{port}/0 is not available" in told["event"]
    assert "check that the server runs" in told["event"]
    assert "hush" not in process.text


def test_3_when_the_store_never_answers(run: Start) -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        process = run("worker", "tasks:app", env={"ASYNCJOBS_URL": url})
        assert process.end() == 3
        assert "is not available" in process.text


def test_3_for_the_layout_of_another_release(run: Start, server: Server) -> None:
    server.command("SET", "asyncjobs:layout", "99 9.8.7")
    process = run("worker", "tasks:app", env={"ASYNCJOBS_URL": server.url})
    assert process.end() == 3
    (told,) = process.records()
    assert "holds key layout '99', written by asyncjobs-framework 9.8.7" in told["event"]
    assert "install release 9.8.7" in told["event"]
