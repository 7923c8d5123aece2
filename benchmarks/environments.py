"""The environments of the compared queues: pinned packages, and settings with their source.

A peer's settings are the best that its documentation or its installed source offers for the
shapes of benchmarks/peers/kit.py. Where trials showed that a larger value makes a peer slower,
its default stands, and says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers.kit import CHORD

__all__ = [
    "FOLDER",
    "PEERS",
    "Environment",
    "clients",
    "command",
    "install",
    "make_environment",
    "variables",
    "why_not",
]

FOLDER: Final = Path(__file__).parent / ".peers"
STAMP: Final = "installed.txt"
"""Written last, so that what an interrupted installation has left is not taken for whole."""
NODE_PACKAGE: Final = Path(__file__).parent / "peers" / "bullmq"


class Environment(NamedTuple):
    """What a peer's environment holds, how many jobs it is given, and its settings in words."""

    module: str
    """Its program in benchmarks/peers/; for Node, the folder with its programs."""
    pins: tuple[str, ...]
    jobs: int
    settings: str
    source: str
    """Where the settings come from."""
    least_redis: tuple[int, int] = (0, 0)
    """Valkey will not do; (0, 0) where any server does."""
    node: bool = False


PEERS: Final[dict[str, Environment]] = {
    "arq": Environment(
        "peer_arq",
        ("arq==0.28.0", "hiredis==3.5.0", "uvloop==0.23.0", "msgpack==1.2.4"),
        4_000,
        "max_jobs=1000, keep_result=0, poll_delay=0.005 s (by default 0.5 s), msgpack",
        "arq/worker.py, Worker (max_jobs, poll_delay, queue_read_limit, keep_result); its "
        "documentation, 'Custom job serializers'",
    ),
    "saq": Environment(
        "peer_saq",
        # It imports typing_extensions without asking for it.
        (
            "saq[redis]==0.26.4",
            "typing_extensions==4.16.0",
            "hiredis==3.5.0",
            "uvloop==0.23.0",
            "orjson==3.13.0",
        ),
        4_000,
        "concurrency=1000, ttl=-1 (no result kept), max_concurrent_ops=20 (by default; 100 cost "
        "more CPU), orjson",
        "saq/queue/redis.py, RedisQueue (dump, load, max_concurrent_ops); saq/worker.py, Worker",
    ),
    "taskiq": Environment(
        "peer_taskiq",
        (
            "taskiq==0.13.0",
            "taskiq-redis==1.2.4",
            "taskiq-pipelines==0.1.4",
            "hiredis==3.5.0",
            "orjson==3.13.0",
            "uvloop==0.23.0",
        ),
        4_000,
        "RedisStreamBroker, xread_count=1000, max_async_tasks=1000, max_prefetch=1000, "
        "validate_params=False (--no-parse), acknowledged when executed, orjson, no result backend",
        "taskiq/cli/worker/args.py (--max-async-tasks, --max-prefetch, --no-parse, --ack-type); "
        "taskiq_redis/redis_broker.py (xread_count); taskiq/serializers/orjson_serializer.py",
    ),
    "streaq": Environment(
        "peer_streaq",
        ("streaq==7.2.0", "uvloop==0.23.0", "orjson==3.13.0"),
        4_000,
        "concurrency=1000, prefetch=1000 (as by default), ttl=0 (no result kept), silent=True, "
        "orjson, uvloop",
        "streaq/worker.py, Worker (concurrency, prefetch, serializer, anyio_kwargs) and "
        "Worker.task (ttl, silent)",
    ),
    "docket": Environment(
        "peer_docket",
        ("pydocket==0.27.0", "hiredis==3.5.0", "uvloop==0.23.0"),
        4_000,
        "concurrency=1000, message_batch=1000, execution_ttl=0 (nothing kept), "
        "max_connections=2000 in the URL",
        "docket/worker.py, Worker (concurrency, message_batch); docket/docket.py, Docket "
        "(execution_ttl)",
    ),
    "repid": Environment(
        "peer_repid",
        # It imports typing_extensions without asking for it.
        (
            "repid[redis]==2.1.4",
            "typing_extensions==4.16.0",
            "hiredis==3.5.0",
            "uvloop==0.23.0",
            "orjson==3.13.0",
        ),
        10_000,
        "tasks_limit=1000, batch_size=10 (by default; 100 and 1,000 were slower), acknowledged "
        "after the run, orjson",
        "repid/connections/redis/message_broker.py, RedisServer (batch_size); repid/main.py, "
        "Repid (default_serializer, tasks_limit of run_worker)",
    ),
    "bullmq": Environment(
        "bullmq",
        ("bullmq==6.7.0", "ioredis==6.0.0"),
        20_000,
        "concurrency=1000, removeOnComplete and removeOnFail, maxRetriesPerRequest=null",
        "docs.bullmq.io, guides 'Concurrency', 'Auto-removal of jobs' and 'Going to production'; "
        "dist/esm/interfaces/worker-options.d.ts",
        node=True,
    ),
    "celery": Environment(
        "peer_celery",
        ("celery[redis]==5.7.0", "hiredis==3.5.0"),
        4_000,
        "thread pool of 1,000 (gevent and solo were slower), prefetch multiplier 1, acknowledged "
        "early (by default), results off, no events, rate limits off, without gossip, mingle "
        "and heartbeat, broker_pool_limit=100, json",
        "docs.celeryq.dev, guides 'Optimizing' (prefetch, pools of connections), 'Concurrency' "
        "(pools) and 'Workers' (--without-gossip, --without-mingle)",
    ),
    "chasquimq": Environment(
        "peer_chasquimq",
        ("chasquimq==1.3.0", "uvloop==0.23.0"),
        40_000,
        "concurrency=1000, read_count=1000 (64, its default, was as fast), store_results=False "
        "(by default), events_enabled=False; its engine is written in Rust",
        "chasquimq/worker.py, Worker; its repository, site/src/content/docs/reference/options.md "
        "(concurrency, XREADGROUP COUNT, events stream) and benchmarks/python-handler.md; its "
        "page on PyPI (Redis 8.6 or newer)",
        least_redis=(8, 6),
    ),
}


def why_not(name: str) -> str | None:
    """Why a peer cannot be measured on any server here, or None."""
    if PEERS[name].node and (shutil.which("node") is None or shutil.which("npm") is None):
        return "skipped: there is no node or no npm on PATH"
    return None


def install(name: str) -> None:
    """Make a peer's environment when it is not there."""
    folder, peer = FOLDER / name, PEERS[name]
    if not peer.node:
        make_environment(folder, Path(sys.executable), peer.pins)
    elif not _holds(folder, peer.pins):
        folder.mkdir(parents=True, exist_ok=True)
        for name_of_file in ("package.json", "package-lock.json"):
            shutil.copy(NODE_PACKAGE / name_of_file, folder)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--silent"], check=True, cwd=folder)
        _note(folder, peer.pins)


def make_environment(folder: Path, python: Path, pins: tuple[str, ...], *options: str) -> None:
    """Make an environment with packages in it, unless it holds these already."""
    if _holds(folder, pins):
        return
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", *options, *pins], check=True)
    _note(folder, pins)


def _holds(folder: Path, pins: tuple[str, ...]) -> bool:
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == "\n".join(pins):
        return True
    print(f"installing {', '.join(pins)}", file=sys.stderr)
    return False


def _note(folder: Path, pins: tuple[str, ...]) -> None:
    (folder / STAMP).write_text("\n".join(pins), encoding="utf-8")


def clients(name: str) -> tuple[str, ...]:
    """The clients of the store that came with a peer, and their versions."""
    if PEERS[name].node:
        return ()
    program = (
        "from importlib.metadata import distributions as all\n"
        "print(*sorted(f'{d.name}=={d.version}' for d in all() if d.name in ('redis', 'coredis')))"
    )
    interpreter = FOLDER / name / "bin" / "python"
    done = subprocess.run([interpreter, "-c", program], capture_output=True, text=True, check=True)
    return tuple(done.stdout.split())


def variables(name: str) -> dict[str, str]:
    """What a peer's program needs in its environment: for Node, where its packages are."""
    return {"NODE_PATH": str(FOLDER / name / "node_modules")} if PEERS[name].node else {}


def command(name: str, shape: str) -> list[str]:
    """How a peer's program is started; the shape decides which of Node's."""
    peer = PEERS[name]
    if not peer.node:
        return [str(FOLDER / name / "bin" / "python"), "-m", f"benchmarks.peers.{peer.module}"]
    program = "worker.js"
    if shape.startswith("enqueue"):
        program = "enqueue.js"
    elif shape == CHORD:
        program = "flow.js"
    return ["node", str(NODE_PACKAGE / program)]
