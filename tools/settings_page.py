"""docs/reference/settings.md: names, defaults and environment variables.

The options of jobs and the settings of an app come from their tables in asyncjobs/options/.
Everything else has its text here. A setting without a text, or a text without a setting, stops
the program with an error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncjobs
from asyncjobs.model.clock import Seconds
from asyncjobs.options.app import SETTINGS, AppOptions
from asyncjobs.options.option import UNSET, Option, Scope
from asyncjobs.options.table import ENQUEUE, FUNCTION, EnqueueOptions, RegisteredOptions
from asyncjobs.policy.backoff import Constant, Exponential

ROOT = Path(__file__).resolve().parent.parent

HEAD = """\
# Settings

<!-- Written by tools/settings_page.py from the code; change it there. -->

Times are seconds or a `timedelta`, sizes are bytes. A setting that cannot work raises a
`ConfigError` that names it, at once.
"""

# What an app takes beside its settings.
APP = {
    "url": "URL of the store; by default `$ASYNCJOBS_URL` when the app opens, else the embedded "
    "store",
    "backend": "a store object of your own, instead of a URL",
    "meter_provider": "OpenTelemetry provider for metrics; by default the process's own, if there "
    "is one when the app opens",
    "tracer_provider": "OpenTelemetry provider for traces; by default the process's own, likewise",
}
POLICY = {
    "max_attempts": "how many attempts, including the first",
    "backoff": "pause after a failed attempt: `exponential()`, `polynomial()`, `constant()`, or "
    "a function from the number of the failure that this policy counts to seconds",
    "on": "exception class or classes that the policy is for; None: all that no other policy names",
}
BACKOFFS = {
    asyncjobs.exponential: {
        "base": "the longest pause after the first failure; it doubles from there",
        "cap": "the longest pause of all; each one is drawn at random from 0 up to its longest",
        "jitter": "False: always the longest pause, nothing random",
    },
    asyncjobs.polynomial: {
        "base": "the longest pause after the first failure; after failure n it is "
        "`base * n ** exponent`",
        "exponent": "how fast it grows; 1 is linear",
        "cap": "the longest pause of all; each one is drawn at random from 0 up to its longest",
        "jitter": "False: always the longest pause, nothing random",
    },
    asyncjobs.constant: {
        "delay": "the pause after each failure",
        "jitter": "True: each pause is drawn at random from 0 up to `delay`",
    },
}
WORKER = {
    "queues": "names, or names with weights as in `{'mail': 3, 'default': 1}`; None takes all "
    "queues of the job functions, and `default`",
    "concurrency": "how many jobs run at a time",
    "grace": "how long a stop waits for running jobs",
    "lease": "how long the jobs of a dead worker wait until others may take them; at least 1 s",
    "threads": "how many sync job functions run at a time; more help functions that wait, not "
    "functions that compute",
    "job_processes": "how many attempts in processes of their own run at a time; None: one for "
    "each core",
    "block_warning": "the log names a job that blocks the event loop for this long; None: never",
    "hard_limit": "the process ends with exit code 5 when a job blocks its event loop for this "
    "long; None: never",
    "stuck_after": "a job that still runs this long after it was cancelled loses its slot; None: "
    "it keeps its slot",
    "name": "its name in logs and lists; None means `host:pid`",
}
VARIABLES = {
    "ASYNCJOBS_URL": "the store, when the code gives none",
    "ASYNCJOBS_APP": "the app of `asyncjobs worker`, as `module:attribute`",
    "ASYNCJOBS_ENV": "`production` refuses the embedded store",
    "ASYNCJOBS_HOME": "folder of the embedded store; by default `.asyncjobs/` beside the nearest "
    "`pyproject.toml`, else in the working directory",
    "NO_COLOR": "set to anything: no colors on a terminal",
}

INTERNAL = {"ASYNCJOBS_SUPERVISED"}
"""Passed from a worker's parent process to its children. Users do not set them."""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_python(), *_variables()])


def _python() -> Iterator[str]:
    yield from _heading("`AsyncJobs(...)`")
    yield from _parameters(asyncjobs.AsyncJobs.__init__, APP)
    yield from _options(SETTINGS, Scope.APP, AppOptions)
    yield ""
    yield from _heading("`@app.job(...)`", "The same for `@registry.job(...)`.")
    yield from _options(FUNCTION, Scope.FUNCTION, RegisteredOptions)
    yield ""
    yield from _heading(
        "`f.options(...)`",
        "For the jobs that are enqueued through it: `f.options(delay=60).enqueue(42)`. Options "
        "that are not given keep the job function's value.",
    )
    yield from _options(ENQUEUE, Scope.ENQUEUE, EnqueueOptions)
    yield ""
    yield from _section("`RetryPolicy(...)`", "", asyncjobs.RetryPolicy.__init__, POLICY)
    for backoff, texts in BACKOFFS.items():
        yield from _section(f"`{backoff.__name__}(...)`", "", backoff, texts)
    yield from _section(
        "`Worker(app, ...)`", "A worker inside your own program.", asyncjobs.Worker.__init__, WORKER
    )


def _section(title: str, intro: str, call: Any, texts: dict[str, str]) -> Iterator[str]:
    yield from _heading(title, intro)
    yield from _parameters(call, texts)
    yield ""


def _heading(title: str, intro: str = "") -> Iterator[str]:
    yield f"## {title}\n"
    if intro:
        yield f"{intro}\n"
    yield "| setting | default | what it is |\n|---|---|---|"


def _options(options: dict[str, Option], scope: Scope, typed: Any) -> Iterator[str]:
    """The rows of a table of options."""
    for name, option in options.items():
        use = option.scopes[scope]
        yield f"| `{name}` | {_default(use.default, typed.__annotations__[name])} | {use.help} |"


def _parameters(call: Any, texts: dict[str, str]) -> Iterator[str]:
    """The rows of a signature, for what is in no table."""
    found = {
        name: setting
        for name, setting in inspect.signature(call).parameters.items()
        if name not in ("self", "app") and setting.kind is not setting.VAR_KEYWORD
    }
    if found.keys() != texts.keys():
        names = sorted(found.keys() ^ texts.keys())
        raise SystemExit(f"{call}: a setting without a text, or the reverse: {', '.join(names)}")
    for name, setting in found.items():
        yield f"| `{name}` | {_default(setting.default, setting.annotation)} | {texts[name]} |"


def _default(value: Any, annotation: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if value is UNSET:
        return "not given"
    if isinstance(value, Exponential):
        return f"`exponential(base={value.base:g}, cap={value.cap:g})`"
    if isinstance(value, Constant):
        return f"`constant({value.delay:g})`"
    if isinstance(value, int) and not isinstance(value, bool):
        # A ForwardRef, where annotations are kept as text.
        is_time = "Seconds" in str(annotation) or annotation == Seconds
        spoken = f" ({_spoken(value)})" if is_time and value >= 60 else ""
        return f"`{value}`{spoken}"
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
