"""Follows one order through two processes, and draws its traces. Needs no network.

    python examples/tracing

Starts a store and a receiver for OTLP on loopback, a shop that enqueues and a worker; both
export their spans by OpenTelemetry's own exporter. Exit code 0: the order was paid.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from receiver import receiving, trees

from asyncjobs.testing.servers import start_server

HERE = Path(__file__).resolve().parent
WORKER = ["-m", "asyncjobs", "worker", "tasks:app", "--burst", "--log-level", "error"]
LIMIT_S = 60.0


def main() -> int:
    with start_server("valkey") as store, receiving() as receiver:
        # A receiver on loopback is not asked through a proxy.
        env = {
            **os.environ,
            "ASYNCJOBS_URL": store.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "NO_PROXY": "127.0.0.1",
        }
        failed = run("shop", ["shop.py"], env) or run("worker", WORKER, env)
        print("\n".join(trees(receiver.spans)))
    return failed


def run(service: str, command: list[str], env: dict[str, str]) -> int:
    """A process of this service, to its end: by then it has sent all its spans."""
    env = {**env, "OTEL_SERVICE_NAME": service}
    command = [sys.executable, *command]
    return subprocess.run(command, check=False, cwd=HERE, env=env, timeout=LIMIT_S).returncode


if __name__ == "__main__":
    raise SystemExit(main())
