"""The commands with a store behind sentinels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncjobs.testing.servers import Server, start_server
from tests.cli.conftest import Start
from tests.cli.operator import operate
from tests.cli.test_worker import closed_port, stop


@pytest.fixture
def place(server: Server) -> Iterator[str]:
    """Of one sentinel that watches the server as `shop`."""
    config = {"sentinel monitor shop": f"127.0.0.1 {server.port} 1"}
    with start_server(server.kind, sentinel=True, config=config) as sentinel:
        yield f"127.0.0.1:{sentinel.port}"


def test_worker_check_and_doctor(folder: Path, server: Server, place: str, run: Start) -> None:
    env = {"ASYNCJOBS_URL": f"redis+sentinel://{place}/shop"}
    shown = f"valkey {server.version} at redis+sentinel://{place}/shop/0"
    worker = run("worker", "tasks:app", "--log-format", "console", env=env)
    worker.wait_started()
    done = operate(folder, "enqueue", "tasks:app", "tasks.send", "--wait", env=env)
    assert (done.code, done.out.split("/")[0]) == (0, "mail")
    check = operate(folder, "check", env=env)
    assert (check.code, check.out.splitlines()[0]) == (0, f"store: {shown}")
    assert stop(worker) == 0
    assert f"store        {shown}" in worker.text
    doctor = operate(folder, "doctor", env=env)
    assert doctor.out.splitlines()[0] == f"store: redis+sentinel://{place}/shop/0"


def test_a_service_that_is_not_known(folder: Path, place: str) -> None:
    url = f"redis+sentinel://:hush-hush@{place}/shoq"
    for command in (["worker", "tasks:app"], ["check"], ["doctor"]):
        done = operate(folder, *command, env={"ASYNCJOBS_URL": url})
        assert done.code == 3
        assert f"no master known for service 'shoq'; asked {place}; check" in done.err
        assert "hush" not in done.err + done.out


def test_no_sentinel(folder: Path) -> None:
    place = f"127.0.0.1:{closed_port()}"
    done = operate(folder, "check", "--url", f"redis+sentinel://{place}/shop")
    assert done.code == 3
    assert f"Error: the store at redis+sentinel://{place}/shop/0 is not available" in done.err
