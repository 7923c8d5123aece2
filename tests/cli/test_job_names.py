"""The job that `ID` names on a command line: by public id, also of a long id or one with `/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncjobs.testing.servers import Server
from tests.cli.test_jobs import add, show

LONGEST = "x" * 256


@pytest.fixture
def env(server: Server) -> dict[str, str]:
    return {"ASYNCJOBS_URL": server.url}


def shown(folder: Path, env: dict[str, str], *args: str) -> str:
    done = show(folder, env, *args, "--json")
    assert done.code == 0, done.err
    job: str = done.json()["job"]
    return job


def test_an_id_with_the_name_of_a_queue_in_front(folder: Path, env: dict[str, str]) -> None:
    add(folder, env, "tasks:app", "tasks.send", "--id", "other")  # now there is a queue `mail`
    add(folder, env, "tasks:app", "tasks.nap", "--args", "[0]", "--id", "mail/5")
    assert shown(folder, env, "mail/5") == "default/mail/5"
    add(folder, env, "tasks:app", "tasks.send", "--id", "5")
    assert shown(folder, env, "mail/5") == "mail/5"
    assert shown(folder, env, "default/mail/5") == "default/mail/5"
    assert shown(folder, env, "mail/5", "--queue", "default") == "default/mail/5"


def test_the_longest_id_by_its_public_id(folder: Path, env: dict[str, str]) -> None:
    job = add(folder, env, "tasks:app", "tasks.send", "--id", LONGEST)
    assert job == f"mail/{LONGEST}"
    assert shown(folder, env, job) == job
    assert shown(folder, env, job, "--queue", "mail") == job
    done = show(folder, env, job, "--queue", "default")
    assert (done.code, done.out) == (1, "")
    assert "in queue default" in done.err
