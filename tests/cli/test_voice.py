"""What an app configures for its own log does not silence the worker's."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from asyncjobs.cli.shared.voice import WITNESS, Voice
from tests.cli.conftest import Put, Start
from tests.cli.process import Ledger

AWAY = {"ASYNCJOBS_URL": "redis://127.0.0.1:1"}
SHOP = '"loggers": {"shop": {"level": "INFO"}}'
FILE = """\
[loggers]
keys=root
[handlers]
keys=out
[formatters]
keys=
[logger_root]
level=INFO
handlers=out
[handler_out]
class=StreamHandler
args=(sys.stderr,)
"""


def configured(folder: Path, code: str, name: str = "shop") -> str:
    """The APP of a module that configures logging as it is imported."""
    text = f"import logging, logging.config\nfrom tasks import app\n{code}\n"
    (folder / f"{name}.py").write_text(text)
    return f"{name}:app"


@pytest.mark.parametrize(
    "code",
    [
        'logging.config.dictConfig({"version": 1})',
        f'logging.config.dictConfig({{"version": 1, {SHOP}}})',
        'logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})',
        'logging.config.dictConfig({"version": 1, "root": {}})',
        'logging.config.dictConfig({"version": 1, "handlers": {"x": {"class": '
        '"logging.StreamHandler"}}, "root": {"handlers": ["x"], "level": "INFO"}})',
        "import io\nlogging.config.fileConfig(io.StringIO(FILE))",
        "logging.disable(logging.CRITICAL)",
        'logging.getLogger("asyncjobs.cli").disabled = True',
        'logging.getLogger("asyncjobs").setLevel(100)',
        "logging.root.handlers.clear()",
    ],
)
def test_a_worker_never_ends_without_a_word(run: Start, folder: Path, code: str) -> None:
    app = configured(folder, f"FILE = {FILE!r}\n{code}")
    process = run("worker", app, env=AWAY)
    assert process.end() == 3
    assert "127.0.0.1:1" in process.text


@pytest.mark.parametrize(
    "code",
    [
        f'logging.config.dictConfig({{"version": 1, {SHOP}}})',
        'logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})',
    ],
)
def test_it_says_as_much_as_without_the_configuration(
    work: Start, run: Start, folder: Path, put: Put, code: str
) -> None:
    configured(folder, code)
    with (folder / "tasks.py").open("a") as tasks:
        tasks.write("\nimport shop\n")
    (id,) = put("fail")
    process = work("--burst", "--burst-wait", "0s")
    assert process.end() == 0
    process.record("worker started")
    assert f"default/{id}: dead" in process.text
    assert process.record("worker ended: 1 job taken, none released")["level"] == "info"


def test_a_job_that_configures_logging_does_not_silence_it_either(
    work: Start, folder: Path, put: Put, ledger: Ledger
) -> None:
    job = (
        "\n\n@app.job\n"
        "async def set_up(*, ctx: JobContext = INJECTED) -> None:\n"
        "    import logging.config\n"
        '    logging.config.dictConfig({"version": 1})\n'
        '    write("began", ctx)\n'
    )
    with (folder / "tasks.py").open("a") as tasks:
        tasks.write(job)
    put("set_up", more=job)
    process = work()
    ledger.wait_for("began", 1)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    process.record("SIGTERM: stopping, no job is running")
    process.record("worker ended: 1 job taken, none released")


def test_what_the_app_says_of_our_loggers_stands(work: Start, run: Start, folder: Path) -> None:
    code = (
        'logging.config.dictConfig({"version": 1, "loggers": {"asyncjobs": {"level": "ERROR"}}})\n'
        'logging.getLogger("asyncjobs.worker").disabled = True'
    )
    configured(folder, code)
    with (folder / "tasks.py").open("a") as tasks:
        tasks.write("\nimport shop\n")
    process = work("--burst", "--burst-wait", "0s")
    assert process.end() == 0
    assert process.text == ""


# The rules, one by one


@pytest.fixture
def _loggers() -> Iterator[None]:
    """Put everything back that a test does to the loggers of this process."""
    root = logging.getLogger()
    names = ["asyncjobs", "asyncjobs.cli", "asyncjobs.worker", WITNESS]
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers
    for name in names:
        logging.getLogger(name).disabled = False
        logging.getLogger(name).handlers.clear()


def switch_off_all() -> None:
    """What dictConfig does to loggers that it does not name."""
    for name in ("asyncjobs", "asyncjobs.cli", "asyncjobs.worker", WITNESS):
        logging.getLogger(name).disabled = True


@pytest.mark.usefixtures("_loggers")
def test_one_that_was_switched_off_on_purpose_stays_off_afterwards() -> None:
    voice = Voice(logging.NullHandler())
    logging.getLogger("asyncjobs.worker").disabled = True
    voice.restore()
    switch_off_all()
    voice.restore()
    assert logging.getLogger("asyncjobs.worker").disabled
    assert not logging.getLogger("asyncjobs.cli").disabled
    assert not logging.getLogger(WITNESS).disabled


@pytest.mark.usefixtures("_loggers")
def test_the_handler_comes_and_goes_with_those_of_the_root() -> None:
    handler, top, root = logging.NullHandler(), logging.getLogger("asyncjobs"), logging.getLogger()
    voice = Voice(handler)
    root.handlers[:] = []
    voice.restore()
    voice.restore()
    assert top.handlers == [handler]
    root.handlers[:] = [logging.NullHandler()]
    voice.restore()
    assert top.handlers == []


@pytest.mark.anyio
@pytest.mark.usefixtures("_loggers")
async def test_a_running_worker_looks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncjobs.cli.shared.voice.LOOK_S", 0)
    voice = Voice(logging.NullHandler())
    voice.start(asyncio.get_running_loop())
    log = logging.getLogger("asyncjobs.worker")
    for _ in range(2):
        switch_off_all()
        assert log.disabled
        with anyio.fail_after(20):
            while log.disabled:
                await asyncio.sleep(0)
    voice.stop()
