"""Jobs that end the event loop: it goes on, and the attempt fails where asyncio allows it."""

from __future__ import annotations

import signal

import pytest

from tests.processes.kit import lines
from tests.processes.program import LoopName, Program
from tests.processes.test_watchdog import wait_dead

LOOP_BROKEN = 7
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])

ESCAPES = """
async def leave(kind):
    await asyncio.sleep(0)
    raise kind(2)


@app.job(retry=soon)
async def exit_in_gather(*, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    await asyncio.gather(leave(SystemExit))


@app.job(retry=soon)
async def exit_in_group(*, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leave(SystemExit))


@app.job(retry=soon)
async def interrupt_in_task(*, ctx: JobContext = INJECTED) -> None:
    write("began", ctx)
    await asyncio.create_task(leave(KeyboardInterrupt))


@app.job(retry=False)
async def exit_alone(*, ctx: JobContext = INJECTED) -> None:
    kept = asyncio.create_task(leave(SystemExit))
    await asyncio.wait({kept})
    write("left", ctx)


@app.job(retry=False)
async def exit_in_callback(*, ctx: JobContext = INJECTED) -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 2)
    await asyncio.sleep(0.01)
    write("left", ctx)


@app.job(retry=False)
async def stop_loop(*, ctx: JobContext = INJECTED) -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    write("left", ctx)
"""


@LOOPS
@pytest.mark.parametrize("name", ["exit_in_gather", "exit_in_group", "interrupt_in_task"])
def test_what_a_sub_task_raises_is_a_failed_attempt(
    program: Program, loop: LoopName, name: str
) -> None:
    program.write(ESCAPES, loop)
    (other,) = program.put("nap", 1.5)
    (id,) = program.put(name)
    process = program.work("--hard-limit", "off")
    assert "is dead (exhausted)" in wait_dead(program.url, id)
    program.ledger.wait_for("ended", 1)
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert [each for each, _ in program.ledger.lines("ended")] == [other]
    assert [attempt for each, attempt in program.ledger.lines("began") if each == id] == [1, 2, 3]
    said = [line for line in lines(process) if "that ends no worker" in line["event"]]
    assert len(said) == 3
    if (name, loop) != ("exit_in_group", "uvloop"):
        # There the task is gone by then, and the group has yet to pass its exception on.
        assert [line.get("job_id") for line in said] == [id] * 3


@LOOPS
@pytest.mark.parametrize("name", ["exit_alone", "exit_in_callback", "stop_loop"])
def test_what_nobody_awaits_ends_no_worker(program: Program, loop: LoopName, name: str) -> None:
    program.write(ESCAPES, loop)
    program.put("nap", 0.5)
    process = program.work("--hard-limit", "off", "--concurrency", "10")
    process.wait_started()
    program.put(name, number=3)
    program.ledger.wait_for("left", 3)
    program.ledger.wait_for("ended", 1)
    process.send(signal.SIGTERM)
    assert process.end() == 0


BROKEN = """
@app.job
async def close_selector(*, ctx: JobContext = INJECTED) -> None:
    write("broke", ctx)
    asyncio.get_running_loop()._selector.close()
    await asyncio.sleep(60)


@app.job
async def break_callback(*, ctx: JobContext = INJECTED) -> None:
    write("broke", ctx)
    asyncio.get_running_loop()._ready = None
    await asyncio.sleep(60)
"""


@pytest.mark.parametrize("name", ["close_selector", "break_callback"])
def test_a_loop_that_cannot_go_on_ends_its_process_at_once(program: Program, name: str) -> None:
    program.write(BROKEN, "asyncio")
    program.put(name)
    process = program.work("--hard-limit", "off", "--lease", "1h")
    assert process.end() == LOOP_BROKEN
    (said,) = [line for line in lines(process) if line["level"] == "critical"]
    assert said["event"].startswith("a job broke the event loop")
    # Given back at once, and not when the lease ends; in the end the job is dead.
    parent = program.work("--processes", "2", "--hard-limit", "off", "--lease", "1h")
    parent.wait_for("a job broke its event loop")
    (id,) = {each for each, _ in program.ledger.lines("broke")}
    assert "is dead (crashed)" in wait_dead(program.url, id)
    parent.send(signal.SIGTERM)
    assert parent.end() == 0
