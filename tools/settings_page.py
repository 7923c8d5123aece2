"""Writes docs/reference/settings.md from the code: names, defaults and variables.

    python tools/settings_page.py            write the page
    python tools/settings_page.py --check    end with 1 when the page is not what it would be

A setting without a text here, or a text without its setting, ends it with an error.
"""

# ruff: noqa: INP001  a program, not a package

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncjobs
from asyncjobs.clock import Seconds
from asyncjobs.config import AppSettings
from asyncjobs.policy.backoff import Constant, Exponential

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "settings.md"

HEAD = """\
# Settings

<!-- Written by tools/settings_page.py from the code; change it there. -->

Times are seconds or a `timedelta`, sizes are bytes. A setting that cannot work is refused
at once, by a `ConfigError` that names it.
"""

APP = {
    "url": "the store; else `$ASYNCJOBS_URL` when the app opens, else the embedded store",
    "backend": "a store that you have made yourself, instead of a URL",
    "meter_provider": "of OpenTelemetry, for metrics; else the process's own, if one is set up "
    "when the app opens",
    "tracer_provider": "of OpenTelemetry, for traces; else the process's own, likewise",
    "prefix": "start of all keys in the store: apps that share a server differ in it",
    "result_ttl": "how long a result is kept; 0 keeps none",
    "max_payload": "size of an encoded job; a larger one is refused by `enqueue`",
    "max_result": "size of an encoded result; a larger one is not kept, and waiters are told",
    "id_ttl": "how long the id of a finished job stays known; until then it is not stored again",
    "connect_timeout": "how long an `enqueue` tries to reach the store",
    "unknown_ttl": "how long a job waits for a worker that knows its function; then it is dead",
    "max_crashes": "how many workers may die while they run a job; then it is dead",
    "timeout": "time-out of an attempt, for job functions that do not say; None is none",
    "retry": "a `RetryPolicy` or a list of them, for job functions and errors that have none; "
    "None is `RetryPolicy()`",
    "dead_max_age": "how long a dead job is kept for inspection",
    "dead_max_count": "how many dead jobs of a queue are kept for inspection",
    "dead_max_bytes": "bytes of the dead jobs of a queue that are kept; the oldest go first",
    "wait_replicas": "how many replicas have to hold a job before its enqueue returns",
    "tracing": "where the trace of an attempt begins: `link`, `child`, `auto` or `none`, see "
    "[Observability](../guides/observability.md); for job functions that do not say",
    "propagate_baggage": "what baggage travels with jobs: `all`, `none` or a list of keys",
    "trace_upkeep": "also trace reclaims that found jobs, and due jobs that were made ready",
    "redact": "names of arguments and keys, or patterns such as `*token*`, whose values are never "
    "shown",
}
FUNCTION = {
    "queue": "the queue its jobs go to",
    "priority": "`critical`, `high`, `normal` or `low`",
    "timeout": "time-out of an attempt; None is none; not given, the app's",
    "retry": "a `RetryPolicy` or a list of them, a number of attempts, or False for one; None "
    "takes the app's, which also rule the errors that a list does not name",
    "discard_on": "exceptions that end the job as discarded, without a retry",
    "result_ttl": "how long its results are kept, 0 keeps none; None takes the app's",
    "expires": "how long after the enqueue an attempt may start; later the job is discarded",
    "tracing": "where the trace of an attempt begins; None takes the app's",
    "sensitive": "parameters whose values are never shown, and `parameter.key` for what stands "
    "under a key",
    "name": "instead of `module.function`, which is what is stored with the job",
    "aliases": "older names, under which jobs may still be stored",
}
OPTIONS = {
    "delay": "run so much later",
    "at": "run at this time, an aware `datetime`",
    "id": "the job's id; a second enqueue with it stores nothing while it is known",
    "queue": "another queue",
    "priority": "another priority",
    "timeout": "another time-out; None takes it away",
    "retry": "a number of attempts for whatever errors, or False for one; backoffs stay",
    "result_ttl": "another time to keep the result",
    "expires": "how long after the enqueue, or until which aware `datetime`, an attempt may "
    "start; None takes it away",
    "tracing": "another mode of tracing",
}
POLICY = {
    "max_attempts": "how many attempts, the first one counted",
    "backoff": "pause after a failed attempt: `exponential()`, `polynomial()`, `constant()`, or "
    "a function to seconds from the number of the failure, of those that this policy counts",
    "on": "exception class or classes that it is for; None is all that no other policy names",
}
BACKOFFS = {
    asyncjobs.exponential: {
        "base": "the longest pause after the first failure; it doubles from there",
        "cap": "the longest pause of all; each one is drawn at random from 0 up to its longest",
        "jitter": "False: always the longest pause, without chance",
    },
    asyncjobs.polynomial: {
        "base": "the longest pause after the first failure; after failure n it is "
        "`base * n ** exponent`",
        "exponent": "how fast it grows; 1 is evenly",
        "cap": "the longest pause of all; each one is drawn at random from 0 up to its longest",
        "jitter": "False: always the longest pause, without chance",
    },
    asyncjobs.constant: {
        "delay": "the pause after each failure",
        "jitter": "True: drawn at random from 0 up to it",
    },
}
WORKER = {
    "queues": "names, or names with weights as in `{'mail': 3, 'default': 1}`; None takes all "
    "that the job functions name, and `default`",
    "concurrency": "jobs running at a time, at the most",
    "grace": "how long a stop waits for running jobs",
    "lease": "how long a worker that died keeps its jobs; at least 1 s",
    "threads": "sync job functions running at a time, at the most; more help those that wait, and "
    "not those that compute",
    "block_warning": "the log names a job that blocks the event loop for that long; None never",
    "hard_limit": "the process ends, with exit code 5, when a job blocks its event loop for that "
    "long; None never",
    "stuck_after": "how long a job may swallow its cancellation; then its slot is freed; None: "
    "it keeps it",
    "name": "its name in logs and lists; None is `host:pid`",
}
VARIABLES = {
    "ASYNCJOBS_URL": "the store, when the code gives none",
    "ASYNCJOBS_APP": "the app of `asyncjobs worker`, as `module:attribute`",
    "ASYNCJOBS_ENV": "`production` refuses the embedded store",
    "ASYNCJOBS_HOME": "folder of the embedded store; else `.asyncjobs/` beside the nearest "
    "`pyproject.toml`, else in the working directory",
    "NO_COLOR": "set to anything: no colors on a terminal",
}

INTERNAL = {"ASYNCJOBS_SUPERVISED"}
"""Between a worker's parent process and its children; nobody else sets them."""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_python(), *_variables()])


def _python() -> Iterator[str]:
    app = asyncjobs.AsyncJobs.__init__
    yield from _section("`AsyncJobs(...)`", "", app, APP, more=AppSettings.of)
    yield from _section(
        "`@app.job(...)`",
        "The same for `@registry.job(...)`.",
        asyncjobs.JobRegistry.job,
        FUNCTION,
    )
    yield from _section(
        "`f.options(...)`",
        "For the jobs enqueued through it: `f.options(delay=60).enqueue(42)`. What is not given "
        "stays as the job function says.",
        asyncjobs.JobFunction.options,
        OPTIONS,
    )
    yield from _section("`RetryPolicy(...)`", "", asyncjobs.RetryPolicy.__init__, POLICY)
    for backoff, texts in BACKOFFS.items():
        yield from _section(f"`{backoff.__name__}(...)`", "", backoff, texts)
    yield from _section(
        "`Worker(app, ...)`", "A worker inside your own program.", asyncjobs.Worker.__init__, WORKER
    )


def _section(
    title: str, intro: str, call: Any, texts: dict[str, str], more: Any = None
) -> Iterator[str]:
    """`more` has the settings that `call` takes as `**settings`."""
    found = {
        name: setting
        for each in filter(None, (call, more))
        for name, setting in inspect.signature(each).parameters.items()
        if name not in ("self", "app", "function") and setting.kind is not setting.VAR_KEYWORD
    }
    if found.keys() != texts.keys():
        names = sorted(found.keys() ^ texts.keys())
        raise SystemExit(f"{title}: a setting without a text, or the reverse: {', '.join(names)}")
    yield f"## {title}\n"
    if intro:
        yield f"{intro}\n"
    yield "| setting | default | what it is |\n|---|---|---|"
    for name, setting in found.items():
        yield f"| `{name}` | {_default(setting)} | {texts[name]} |"
    yield ""


def _default(setting: inspect.Parameter) -> str:
    value = setting.default
    if value is inspect.Parameter.empty:
        return "required"
    if type(value).__name__ == "Unset":
        return "not given"
    if isinstance(value, Exponential):
        return f"`exponential(base={value.base:g}, cap={value.cap:g})`"
    if isinstance(value, Constant):
        return f"`constant({value.delay:g})`"
    if isinstance(value, int) and not isinstance(value, bool):
        is_time = "Seconds" in str(setting.annotation) or setting.annotation == Seconds
        return f"`{value}`" + (f" ({_spoken(value)})" if is_time and value >= 60 else "")
    return f"`{value!r}`"


def _spoken(seconds: int) -> str:
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds % size == 0:
            number = seconds // size
            return f"{number} {unit}" + ("" if number == 1 else "s")
    return f"{seconds} seconds"


def _variables() -> Iterator[str]:
    sources = "\n".join(path.read_text() for path in (ROOT / "asyncjobs").rglob("*.py"))
    names = set(re.findall(r"[\"'](ASYNCJOBS_[A-Z]+|NO_COLOR)[\"']", sources))
    names -= INTERNAL
    if names != VARIABLES.keys():
        odd = ", ".join(sorted(names ^ VARIABLES.keys()))
        raise SystemExit(f"a variable without a text, or the reverse: {odd}")
    yield "## Environment\n"
    yield (
        "Each flag of `asyncjobs worker` has a variable, too, such as `ASYNCJOBS_WORKER_LEASE` for "
        "`--lease`. See [Command line](cli.md).\n"
    )
    yield "| variable | what it is |\n|---|---|"
    for name, text in VARIABLES.items():
        yield f"| `{name}` | {text} |"
    yield ""


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" not in arguments:
        PAGE.write_text(text)
        return 0
    if PAGE.is_file() and PAGE.read_text() == text:
        return 0
    sys.stderr.write("docs/reference/settings.md is not up to date; run make settings\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
