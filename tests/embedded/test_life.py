"""The server starts with the first user and stops with the last, however they come and go."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from asyncjobs.errors import ConfigError, StoreUnavailable
from asyncjobs.store.embedded import guardian, joining
from asyncjobs.store.embedded.folder import StoreFolder
from asyncjobs.store.embedded.joining import join
from tests.embedded.kit import Store, is_free, new_store, record
from tests.kit.environment import LIMIT_S, environment
from tests.kit.waiting import is_alive, until


def test_many_that_start_at_once_share_one_server(store: Store) -> None:
    users = [store.start_user() for _ in range(6)]
    assert {user.hear() for user in users} == {store.url}
    assert users[0].ask("enqueue 10") == "stored"
    assert [user.ready() for user in users] == [10] * 6
    running = store.record
    log = (store.folder / guardian.LOG).read_text()
    assert log.count("Ready to accept connections") == 1
    for user in users:
        assert is_alive(running.server)
        user.leave()
    store.until_stopped()
    until(lambda: not is_alive(running.server) and not is_alive(running.guardian))


def test_a_killed_last_user_stops_the_server_and_jobs_stay(store: Store) -> None:
    first, second = store.user(), store.user()
    first.ask("enqueue 25")
    running = store.record
    first.kill()
    assert second.ready() == 25
    assert store.record == running
    second.kill()
    store.until_stopped()
    assert not is_alive(running.server)
    assert not (store.folder / guardian.RECORD).exists()
    third = store.user()
    assert third.ready() == 25
    assert store.record.server != running.server


def test_who_arrives_while_the_last_one_leaves_gets_a_living_server(store: Store) -> None:
    folder = StoreFolder(store.folder)

    def come_and_go(times: int) -> int:
        for _ in range(times):
            hold = join(folder, threading.Event())
            # Whoever holds the store has a server that answers, and keeps it.
            assert is_alive(record(store.folder).server)
            assert hold.is_guarded()
            hold.release()
        return times

    # Each release may be the last one: then the next arrival meets a server that stops.
    with ThreadPoolExecutor(3) as threads:
        assert sum(threads.map(come_and_go, [15] * 3)) == 45


def test_of_many_that_arrive_one_starts_the_guardian(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[StoreFolder] = []
    start = joining._start_guardian

    def count(folder: StoreFolder) -> None:
        started.append(folder)
        start(folder)

    monkeypatch.setattr(joining, "_start_guardian", count)
    folder = StoreFolder(store.folder)
    with ThreadPoolExecutor(8) as threads:
        holds = list(threads.map(lambda _: join(folder, threading.Event()), range(8)))
    assert len(started) == 1
    for hold in holds:
        hold.release()


def test_nobody_joins_a_server_that_is_being_stopped(store: Store) -> None:
    folder = StoreFolder(store.folder)
    hold = join(folder, threading.Event())
    dying = store.record
    # Stopped like this, it takes its time to end.
    os.kill(dying.server, signal.SIGSTOP)
    hold.release()
    until(lambda: not is_free(store.folder / guardian.USERS))
    with ThreadPoolExecutor(1) as thread:
        arriving = thread.submit(join, folder, threading.Event())
        assert not wait([arriving], timeout=0.2).done
        os.kill(dying.server, signal.SIGCONT)
        arrived = arriving.result(LIMIT_S)
    assert not is_alive(dying.server)
    assert is_alive(store.record.server)
    arrived.release()


def test_ctrl_c_ends_the_users_and_not_the_server(store: Store) -> None:
    first = store.user()
    running = store.record
    second = store.user()
    first.interrupt_group()
    assert first.process.returncode != 0
    assert second.ask("enqueue 1") == "stored"
    assert store.record == running
    for pid in (running.guardian, running.server):
        assert os.getsid(pid) not in (os.getsid(0), first.process.pid)


def test_a_signal_to_everything_leaves_the_store_to_its_users(store: Store) -> None:
    user = store.user()
    user.ask("enqueue 3")
    running = store.record
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(running.guardian, number)
    os.kill(running.server, signal.SIGTERM)
    until(lambda: store.record.server != running.server)
    assert store.record._replace(server=running.server) == running
    user.kill()
    after = store.user()
    assert after.ready() == 3


def test_a_forked_child_is_no_user(store: Store) -> None:
    user = store.user()
    child = int(user.ask("fork"))
    try:
        user.kill()
        store.until_stopped()
        assert is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_killed_server_is_started_again(store: Store) -> None:
    user = store.user()
    user.ask("enqueue 5")
    store.until_written()
    for _ in range(2):
        running = store.record
        os.kill(running.server, signal.SIGKILL)
        until(lambda before=running: store.record.server != before.server)  # type: ignore[misc]
        # At the same address, so that whoever is connected finds it.
        assert store.record.socket == running.socket
    joined = store.user()
    assert joined.ready() == 5


def test_a_killed_guardian_is_replaced_by_a_user(store: Store) -> None:
    user = store.user()
    user.ask("enqueue 5")
    running = store.record
    os.kill(running.guardian, signal.SIGKILL)

    def has_another() -> bool:
        path = store.folder / guardian.RECORD
        return path.exists() and json.loads(path.read_bytes())["guardian"] != running.guardian

    until(has_another)
    until(lambda: not is_alive(running.server))
    joined = store.user()
    assert joined.ready() == 5
    assert user.ready() == 5
    assert not Path(running.socket).parent.exists()
    joined.leave()
    user.kill()
    store.until_stopped()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no such signal")
def test_when_all_are_killed_nothing_is_left_and_the_next_user_finds_the_jobs(
    store: Store,
) -> None:
    user = store.user()
    user.ask("enqueue 5")
    running = store.record
    # Stopped, it can neither leave nor start another guardian.
    os.kill(user.process.pid, signal.SIGSTOP)
    os.kill(running.guardian, signal.SIGKILL)
    user.kill()
    store.until_stopped()
    again = store.user()
    assert again.ready() == 5


def test_a_server_that_outlived_its_guardian_is_ended_by_the_next(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where the kernel does not tell the server that its guardian was killed.
    source = Path(guardian.__file__).read_text()
    assert "(None).prctl" in source
    (tmp_path / "guardian.py").write_text(source.replace("(None).prctl", "(None).no_such_thing"))
    monkeypatch.setattr(guardian, "__file__", str(tmp_path / "guardian.py"))
    hold = join(StoreFolder(store.folder), threading.Event())
    running = store.record
    os.kill(running.guardian, signal.SIGKILL)
    until(lambda: not hold.is_guarded())
    assert is_alive(running.server)
    joined = join(StoreFolder(store.folder), threading.Event())
    assert not is_alive(running.server)
    assert not Path(running.socket).parent.exists()
    assert is_alive(store.record.server)
    for user in (hold, joined):
        user.release()
    store.until_stopped()


def test_a_copy_of_a_folder_in_use_is_a_store_of_its_own(
    store: Store, tmp_path: Path, temporary: Path
) -> None:
    user = store.user()
    user.ask("enqueue 2")
    running = store.record
    shutil.copytree(store.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.new"))
    with new_store(tmp_path / "copy", temporary) as copy:
        other = copy.user()
        other.ask("enqueue 3")
        assert (copy.record.server, copy.record.socket) != (running.server, running.socket)
        assert user.ready() == 2
        other.leave()
        copy.until_stopped()
        assert store.record == running
        user.leave()
        store.until_stopped()


def test_the_users_streams_are_not_held_by_the_guardian(store: Store) -> None:
    keeper = store.start_user()
    assert keeper.hear() == store.url
    assert keeper.process.stdin is not None
    joined = store.user()
    # The first one started the guardian; its pipes must end with it all the same.
    keeper.leave()
    assert joined.ready() == 0


def test_a_long_path_and_odd_characters(tmp_path: Path, temporary: Path) -> None:
    folder = tmp_path / ("long" * 40) / 'it\'s a "folder" ü'
    folder.parent.mkdir()
    with new_store(folder, temporary) as store:
        user = store.user()
        user.ask("enqueue 1")
        assert len(store.record.socket) < 104
        assert stat.S_IMODE(Path(store.record.socket).parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(Path(store.record.socket).stat().st_mode) & 0o077 == 0


def test_a_long_temporary_folder_gives_way(store: Store, tmp_path: Path) -> None:
    long = tmp_path / ("t" * 120)
    long.mkdir()
    hold_env = environment({"TMPDIR": str(long)}) | {"LONG": "1"}
    source = (
        "import sys, threading; from pathlib import Path\n"
        "from asyncjobs.store.embedded.folder import StoreFolder\n"
        "from asyncjobs.store.embedded.joining import join\n"
        "hold = join(StoreFolder(Path(sys.argv[1])), threading.Event())\n"
        "print(hold.socket_path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, str(store.folder)],
        env=hold_env,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    socket = Path(done.stdout.strip())
    assert socket.parent.parent == Path("/tmp")
    store.until_stopped()
    until(lambda: not socket.parent.exists())


def test_a_server_that_does_not_start_is_reported_with_its_words(store: Store) -> None:
    store.user().leave()
    store.until_stopped()
    (manifest,) = store.folder.glob("data/appendonlydir/*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(StoreUnavailable) as caught:
        join(StoreFolder(store.folder), threading.Event())
    text = str(caught.value)
    assert store.url in text
    assert "ended with 1" in text
    assert "manifest" in text
    assert "ASYNCJOBS_URL" in text
    store.until_stopped()


def test_a_program_that_cannot_run_is_reported(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a binary for another C library: the file is there and its loader is not.
    binary = tmp_path / "server"
    binary.write_text("#!/no/such/loader\n")
    binary.chmod(0o755)
    monkeypatch.setattr("asyncjobs.store.embedded.joining.find_binary", lambda: str(binary))
    with pytest.raises(StoreUnavailable, match="No such file"):
        join(StoreFolder(store.folder), threading.Event())
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(ConfigError, match=r"sys\.executable is empty"):
        join(StoreFolder(store.folder), threading.Event())


def test_who_is_told_to_stop_waits_no_longer(store: Store) -> None:
    folder = StoreFolder(store.folder)
    hold = join(folder, threading.Event())
    os.kill(store.record.server, signal.SIGSTOP)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(join, folder, stop)
        stop.set()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            waiting.result(LIMIT_S)
    os.kill(store.record.server, signal.SIGCONT)
    hold.release()
    hold.release()
    store.until_stopped()
