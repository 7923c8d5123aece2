"""Worker and exporter as processes, read as Prometheus reads them, and by Prometheus."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGTERM
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from asyncjobs.errors import ConfigError
from asyncjobs.host.exits import ExitCode
from asyncjobs.testing.servers import Server, start_server
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger
from tests.kit.environment import LIMIT_S, ROOT
from tests.kit.waiting import ticks

pytest.importorskip("opentelemetry.exporter.prometheus", reason="extra prometheus is missing")

from asyncjobs.cli.shared import endpoint as module
from asyncjobs.cli.shared.endpoint import Endpoint


def free_port(number: int = 1) -> int:
    """The first of so many ports in a row at which nobody listens."""
    for _ in range(100):
        with ExitStack() as stack:
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
            try:
                for port in range(first + 1, first + number):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            return first
    raise AssertionError("no free ports in a row")


def fetch(url: str) -> str:
    """Raises OSError; also while Prometheus answers that it is not ready yet."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
    except HTTPError as error:
        error.close()
        raise
    return text


def samples(port: int) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parse(fetch(f"http://127.0.0.1:{port}/metrics")):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def until(check: Callable[[], Any]) -> Any:
    problem: object = None
    for _ in ticks():
        try:
            if found := check():
                return found
        except OSError as error:
            problem = error
    raise AssertionError(f"it did not come: {problem}")


def total(port: int, name: str, **labels: str) -> float:
    return sum(
        value
        for found, value in samples(port).get(name, [])
        if all(found.get(key) == wanted for key, wanted in labels.items())
    )


def test_a_worker_shows_its_jobs(work: Start, put: Put, ledger: Ledger) -> None:
    port = free_port()
    worker = work("--metrics-port", str(port), "--log-format", "json")
    worker.wait_started()
    put("send", number=3)
    put("fail")
    done = "asyncjobs_jobs_finished_total"
    until(lambda: total(port, done) == 4)
    assert total(port, done, asyncjobs_job_name="tasks.send") == 3
    assert total(port, done, error_type="ValueError", asyncjobs_job_outcome="dead") == 1
    assert total(port, "messaging_client_consumed_messages_total") == 4
    assert total(port, "messaging_process_duration_seconds_count") == 4
    assert total(port, "asyncjobs_worker_slots") == 1000
    assert total(port, "asyncjobs_jobs_active") == 0
    assert "planted fault" not in fetch(f"http://127.0.0.1:{port}/metrics")
    worker.send(SIGTERM)
    assert worker.end() == 0


def test_each_process_has_a_port(work: Start, put: Put) -> None:
    first = free_port(2)
    worker = work("--metrics-port", str(first), "--processes", "2")
    for port in (first, first + 1):
        until(lambda port=port: total(port, "asyncjobs_worker_slots") == 1000)
    worker.send(SIGTERM)
    assert worker.end() == 0


def test_a_taken_port_is_an_error(work: Start, run: Start, server: Server) -> None:
    port = free_port()
    first = work("--metrics-port", str(port))
    until(lambda: fetch(f"http://127.0.0.1:{port}/metrics"))
    second = work("--metrics-port", str(port))
    assert second.end() == 2
    assert f"cannot listen at 127.0.0.1:{port}" in second.text
    third = run("exporter", "--port", str(port), "--url", server.url)
    assert third.end() == 2
    assert f"cannot listen at 127.0.0.1:{port}" in third.text
    first.send(SIGTERM)
    assert first.end() == 0


def test_a_process_waits_for_the_port_of_the_one_that_it_replaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    with socket.socket() as old:
        old.bind(("127.0.0.1", 0))
        old.listen()
        endpoint = Endpoint("127.0.0.1", old.getsockname()[1])
        with pytest.raises(ConfigError, match="cannot listen at 127"):
            endpoint.open()
        endpoint.open(patient=True)
    try:
        assert until(lambda: fetch(endpoint.url))
    finally:
        endpoint.close()
    with pytest.raises(OSError, match="refused"):
        fetch(endpoint.url)


def test_the_exporter_shows_the_queues(run: Start, put: Put, server: Server) -> None:
    port = free_port()
    put("send", number=5)
    exporter = run("exporter", "--port", str(port), "--url", server.url)
    until(lambda: total(port, "asyncjobs_queue_jobs", messaging_destination_name="mail") == 5)
    assert total(port, "asyncjobs_queue_jobs", asyncjobs_job_state="ready") == 5
    assert "asyncjobs_queue_oldest_age_seconds" in samples(port)
    assert "asyncjobs_scheduler_lag_seconds" in samples(port)
    exporter.send(SIGTERM)
    assert exporter.end() == 0


def test_without_its_store_the_exporter_shows_no_queue(run: Start, put: Put) -> None:
    port = free_port()
    with start_server("valkey") as own:
        put("send", number=5, url=own.url)
        exporter = run("exporter", "--port", str(port), "--url", own.url)
        until(lambda: total(port, "asyncjobs_queue_jobs") == 5)
    # It answers, so its own `up` is 1: what is missing is the alarm.
    until(lambda: not [name for name in samples(port) if name.startswith("asyncjobs_")])
    exporter.send(SIGTERM)
    assert exporter.end() == 0


STOPPED_IN_A_THREAD = """
import asyncio, signal, socket, sys, threading, time
from asyncjobs.cli.exporter import _serve

def stop():
    main, asleep = threading.main_thread().ident, 0
    while asleep < 20:
        # Asleep for good, and not on its way to it: then it would see the signal all the same.
        is_asleep = sys._current_frames()[main].f_code.co_name == "select" and listens()
        asleep = asleep + 1 if is_asleep else 0
        time.sleep(0.005)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Event().wait()

def listens():
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10).close()
    except OSError:
        return False
    return True

threading.Thread(target=stop, daemon=True).start()
asyncio.run(_serve(None, "127.0.0.1", int(sys.argv[1])))
"""


def test_a_signal_that_a_thread_gets_ends_the_exporter() -> None:
    """As the system may choose to, while a scrape is under way; without a store there is
    nothing else that wakes the loop."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_IN_A_THREAD, str(free_port())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts the real server with these targets; returns its port."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on PATH: apt-get install prometheus")
    started: list[subprocess.Popen[bytes]] = []

    def start(*targets: int) -> int:
        port = free_port()
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [
                {
                    "job_name": "asyncjobs",
                    "static_configs": [{"targets": [f"127.0.0.1:{each}" for each in targets]}],
                }
            ],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        command = [
            program,
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        started.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return port

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_prometheus_scrapes_worker_and_exporter(
    work: Start, run: Start, put: Put, server: Server, prometheus: Callable[..., int]
) -> None:
    ports = free_port(), free_port()
    worker = work("--metrics-port", str(ports[0]), "--grace", "100ms")
    exporter = run("exporter", "--port", str(ports[1]), "--url", server.url)
    put("send", number=3)
    put("nap", 60)
    base = f"http://127.0.0.1:{prometheus(*ports)}/api/v1"

    def ask(query: str) -> float | None:
        answer = json.loads(fetch(f"{base}/query?{urlencode({'query': query})}"))
        found = answer["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    until(lambda: ask('sum(up{job="asyncjobs"})') == 2)
    until(lambda: ask('asyncjobs_jobs_finished_total{asyncjobs_job_name="tasks.send"}') == 3)
    until(lambda: ask("sum(asyncjobs_jobs_active)") == 1)
    until(lambda: ask('sum(asyncjobs_queue_jobs{asyncjobs_job_state="running"})') == 1)
    assert ask("histogram_quantile(0.5, sum by (le) (messaging_process_duration_seconds_bucket))")
    for process in (worker, exporter):
        process.send(SIGTERM)
    assert exporter.end() == 0
    assert worker.end() == ExitCode.RELEASED
