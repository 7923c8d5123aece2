"""docs/reference/api.md: the public names with their docstrings.

Griffe reads the source without importing it. The options of jobs come from their table. A public
name without a place here, or without a docstring, stops the program with an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import griffe

from asyncjobs.jobs import rule
from asyncjobs.options.app import SETTINGS
from asyncjobs.options.table import ENQUEUE, FUNCTION

ROOT = Path(__file__).resolve().parent.parent

HEAD = """\
# API

<!-- Written by tools/api_page.py from the docstrings; change them there. -->

These names are public. Everything else may change between releases. Settings and their defaults are
in [Settings](settings.md).
"""
SECTIONS = {
    "The app": ["AsyncJobs", "JobRegistry"],
    "Job functions": [
        "JobFunction",
        "JobCall",
        "RetryPolicy",
        "exponential",
        "polynomial",
        "constant",
        "Secret",
        "Ref",
        "by_id",
        "Unique",
        "Debounce",
        "Throttle",
        "Concurrency",
        "RateLimit",
        "Fair",
        "QueueBy",
        "Batch",
    ],
    "Middleware and callbacks": [
        "Hooked",
        "JobAttempt",
        "CallNext",
        "AttemptMiddleware",
        "EnqueueCall",
        "Send",
        "EnqueueMiddleware",
        "Succeed",
        "JobEnd",
        "Abort",
    ],
    "Resources and dependencies": ["Depends"],
    "Inside a job": [
        "JobContext",
        "BatchContext",
        "Step",
        "current_job",
        "INJECTED",
        "Retry",
        "Snooze",
        "RateLimited",
        "Discard",
        "BatchError",
    ],
    "Handles and what they return": [
        "JobHandle",
        "JobInfo",
        "StepInfo",
        "JobError",
        "Progress",
        "JobRef",
        "State",
        "Priority",
    ],
    "Many jobs at once": ["Jobs", "JobRow", "JobRows", "ActionVerdict"],
    "The past": ["History", "EndedJob", "FunctionFigures", "Quantiles"],
    "Schedules": ["Schedules", "Schedule", "FromTick", "Backfill"],
    "Flows": [
        "chain",
        "group",
        "chord",
        "Flow",
        "Node",
        "PREVIOUS",
        "Workflow",
        "Flows",
        "FlowHandle",
        "NodeHandle",
        "FlowInfo",
        "NodeInfo",
        "FlowState",
        "FlowContext",
        "JobBatch",
    ],
    "Limits": ["Limits", "LimitInfo"],
    "Workers": ["Worker", "WorkerReport"],
    "Types": ["Seconds"],
}
"""Where the names of `asyncjobs` stand on the page; its errors have a table of their own."""
MORE = {
    "asyncjobs.integrations": ["lifespan"],
    "asyncjobs.compat.celery": [
        "Celery",
        "shared_task",
        "shared_tasks",
        "celery_like",
        "CeleryTask",
        "CeleryResult",
        "Signature",
        "chain",
        "group",
        "chord",
        "Canvas",
        "CeleryFlowResult",
        "FROM_REDIS",
        "FROM_RABBITMQ",
    ],
    "asyncjobs.telemetry.logs": [
        "JobContextFilter",
        "JobLog",
        "add_job_context",
        "mask_job_values",
    ],
    "asyncjobs.telemetry.sampler": ["LinkedParentSampler"],
    "asyncjobs.testing": [
        "assert_enqueued",
        "refute_enqueued",
        "perform",
        "drain",
        "interrupt_at",
        "staged",
        "Recorder",
        "StageWorker",
        "VirtualClock",
        "Performed",
        "Drained",
        "EnqueuedCall",
        "Subset",
        "Interruption",
        "Stage",
    ],
    "asyncjobs.testing.servers": ["start_server", "available_servers", "Server"],
}
"""Public names of other modules."""
MEMBERS = {
    "Recorder": ["of", "results", "logs", "assert_enqueued", "refute_enqueued", "clear"],
    "StageWorker": ["perform", "perform_sync", "drain", "drain_sync"],
    "VirtualClock": ["now", "advance", "advance_to", "advance_sync", "leap", "leap_to"],
    "Stage": [],
    "Interruption": [],
    "AsyncJobs": [
        "job",
        "cron",
        "every",
        "lifespan",
        "override",
        "resources",
        "include",
        "enqueue_many",
        "limit",
        "handle",
        "on",
        "store_info",
    ],
    "History": ["jobs", "functions"],
    "JobRegistry": ["job", "cron", "every", "lifespan", "include", "functions", "queues"],
    "JobFunction": ["enqueue", "enqueue_sync", "bind", "handle", "options"],
    "JobContext": [
        "ref",
        "id",
        "queue",
        "enqueued_at",
        "scheduled_at",
        "scheduled_for",
        "schedule",
        "expires_at",
        "deadline",
        "flow",
        "meta",
        "tags",
        "progress",
    ],
    "JobAttempt": ["ref", "name", "number", "info", "context"],
    "JobError": [],
    "Workflow": [],
    "FlowContext": ["name", "id", "node", "context", "expand"],
    "FlowState": [],
    "RetryPolicy": [],
    "Unique": [],
    "Debounce": [],
    "Throttle": [],
    "Concurrency": [],
    "RateLimit": [],
    "Fair": [],
    "QueueBy": [],
    "Batch": [],
    "Worker": ["run", "stop", "running", "is_stopping", "unready"],
    "LinkedParentSampler": [],
    "JobContextFilter": [],
}
"""Members that users call, where a class has others for asyncjobs itself. Of all other classes,
every member with a docstring is shown."""
MADE_FOR_YOU = {
    "Jobs",
    "Flows",
    "FlowHandle",
    "NodeHandle",
    "Node",
    "Workflow",
    "FlowContext",
    "JobBatch",
    "JobRow",
    "Schedules",
    "Limits",
    "JobFunction",
    "JobCall",
    "JobHandle",
    "JobContext",
    "BatchContext",
    "JobAttempt",
    "Hooked",
    "Step",
    "EnqueueCall",
    "Send",
    "JobRef",
    "Server",
    "Recorder",
    "StageWorker",
    "VirtualClock",
    "Performed",
    "Drained",
    "EnqueuedCall",
    "Interruption",
    "Stage",
}
"""Classes that asyncjobs makes: how they are constructed is nobody's business."""
RULE = tuple(rule.RuleOptions.__annotations__)
SCHEDULE = (*RULE, *rule.ScheduleOptions.__annotations__)
TABLES = {
    "job": FUNCTION,
    "options": ENQUEUE,
    "every": SCHEDULE,
    "cron": (*SCHEDULE, "tz"),
    "put": (*RULE, "tz"),
}
"""Methods that take the options of a table, as `**options`."""
NAMED_BY = {**TABLES, "AsyncJobs": SETTINGS, "step": ("start", "cursor", "isolated")}
"""What takes the names of a table beside its parameters: a docstring lists them in the same way."""
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "JobContext": {
        "jobs.gathering.Gathers": ("seat",),
        "jobs.stepwise.Stepwise": ("seat", "ref", "work", "work_so_far", "hear_stop"),
    },
}
"""Classes with a base class of ours whose members are shown, too; and those members that are not
for users."""
WIDTH = 92
"""Longer signatures have a line for each parameter."""
SHORT = 110
"""Longer signatures of members show the names of their parameters only."""


def page() -> str:
    """The whole page."""
    package = griffe.load("asyncjobs", search_paths=[str(ROOT)])
    lines = [HEAD]
    for title, names in SECTIONS.items():
        lines.append(f"## {title}\n")
        for name in names:
            lines += entry(package, resolved(package, name), name)
    lines += errors(package)
    lines += events(package)
    for module, names in MORE.items():
        lines.append(f"## `{module}`\n")
        for name in names:
            path = f"{module.removeprefix('asyncjobs.')}.{name}"
            lines += entry(package, resolved(package, path), name)
    check_complete(package)
    return "\n".join(lines).rstrip() + "\n"


def resolved(package: griffe.Object, path: str) -> griffe.Object:
    """The object itself, where a module only passes it on."""
    found = package[path]
    return found.final_target if found.is_alias else found


def check_complete(package: griffe.Object) -> None:
    placed = {name for names in SECTIONS.values() for name in names}
    placed |= {name for name, _ in error_classes(package)}
    public = {str(name) for name in package.exports or ()} - {"__version__"}
    if odd := placed ^ public:
        raise SystemExit(f"public names without a place, or the reverse: {', '.join(sorted(odd))}")


def docstring(found: griffe.Object, name: str) -> str:
    if found.docstring is None:
        raise SystemExit(f"{name} is public and has no docstring")
    return found.docstring.value.strip()


def entry(package: griffe.Object, found: griffe.Object, name: str) -> Iterator[str]:
    """One name: its signature, its docstring, and the members of a class."""
    yield f"### {name}\n"
    if isinstance(found, griffe.Attribute):
        yield f"{as_markdown(docstring(found, name), ())}\n"
        return
    is_enum = any(is_subclass(found, kind) for kind in ("Enum", "IntEnum", "StrEnum"))
    if not is_enum and name not in MADE_FOR_YOU:
        yield "<!-- docs: not run: a signature -->"
        yield f"```text\n{signature(found, name)}\n```\n"
    yield f"{as_markdown(docstring(found, name), parameters_of(found))}\n"
    if not isinstance(found, griffe.Class):
        return
    if is_enum:
        values = [f"`{m.name}`" for m in found.members.values() if m.name.isupper()]
        yield f"Members: {', '.join(values)}.\n"
    members = [found.members[each] for each in MEMBERS.get(name, found.members)]
    for part, own in PARTS.get(name, {}).items():
        members += [m for m in package[part].members.values() if m.name not in own]
    for member in members:
        if isinstance(member, griffe.Function | griffe.Attribute):
            yield from member_lines(member)


def member_lines(member: griffe.Function | griffe.Attribute) -> Iterator[str]:
    """A bullet for a member that has a docstring of its own."""
    if member.name.startswith("_") or member.docstring is None:
        return
    text = as_markdown(member.docstring.value.strip(), parameters_of(member))
    if isinstance(member, griffe.Function):
        shown = signature(member, member.name, width=10_000)
        if len(shown) > SHORT:
            shown = signature(member, member.name, width=10_000, with_types=False)
    else:
        shown = member.name
        if member.annotation is not None:
            shown += f": {member.annotation}"
    indented = text.replace("\n", "\n  ").replace("\n  \n", "\n\n")
    yield f"- `{shown}`\n\n  {indented}\n"


def signature(
    found: griffe.Object, name: str, width: int = WIDTH, *, with_types: bool = True
) -> str:
    if isinstance(found, griffe.Class):
        start = name
        result = ""
    else:
        start = "async " * ("async" in found.labels) + name
        # The signature behind overloads returns Any. The first overload is the usual call.
        returns = (getattr(found, "overloads", None) or [found])[0]
        result = f" -> {returns.returns}" if getattr(returns, "returns", None) is not None else ""
    parts = list(parameter_parts(found, with_types=with_types))
    whole = f"{start}({', '.join(parts)}){result}"
    if len(whole) <= width:
        return whole
    lines = "".join(f"    {part},\n" for part in parts)
    return f"{start}(\n{lines}){result}"


def parameter_parts(found: griffe.Object, *, with_types: bool) -> Iterator[str]:
    """The parameters as they are written in a signature, with `/` and `*`."""
    kinds = griffe.ParameterKind
    before = None
    has_star = False
    for each in getattr(found, "parameters", ()):
        if each.name in ("self", "cls"):
            continue
        if before is kinds.positional_only and each.kind is not kinds.positional_only:
            yield "/"
        if each.kind is kinds.keyword_only and not has_star:
            has_star = True
            yield "*"
        before = each.kind
        if each.kind is kinds.var_keyword and found.name in TABLES:
            yield "*"
            yield from TABLES[found.name]
            continue
        stars = ""
        if each.kind is kinds.var_positional:
            stars = "*"
            has_star = True
        elif each.kind is kinds.var_keyword:
            stars = "**"
        text = f"{stars}{each.name}"
        if with_types and each.annotation is not None:
            text += f": {each.annotation}"
        if with_types and each.default is not None and not stars:
            text += f" = {each.default}"
        yield text
    if before is kinds.positional_only:
        yield "/"


def parameters_of(found: griffe.Object) -> tuple[str, ...]:
    names = [each.name for each in getattr(found, "parameters", ())]
    return (*names, *NAMED_BY.get(found.name, ()))


def as_markdown(text: str, parameters: Sequence[str]) -> str:
    """A docstring as Markdown: `name: what it is` becomes a list, `Raises` a paragraph."""
    lines: list[str] = []
    in_list = False
    text = text.replace("docs/reference/settings.md", "[Settings](settings.md)")
    for line in text.splitlines():
        name = re.match(r"(\w+): ", line)
        if name and name[1] in parameters:
            if lines and lines[-1] and not in_list:
                lines.append("")
            in_list = True
            lines.append(f"- `{name[1]}`: {line[name.end() :]}")
            continue
        if in_list and re.match(r"[A-Z]\S* ", line) and lines[-1].endswith("."):
            in_list = False
            lines.append("")
        if line.startswith("Raises ") and lines and lines[-1]:
            lines.append("")
        if not line:
            in_list = False
        lines.append(f"  {line}" if in_list and line else line)
    return "\n".join(lines)


def errors(package: griffe.Object) -> Iterator[str]:
    yield "## Errors\n"
    yield "Each error says what is wrong and what to do next. `Retry`, `Snooze` and `Discard` are"
    yield "signals that a job raises, not errors.\n"
    yield "| error | is a | meaning |\n|---|---|---|"
    for name, found in error_classes(package):
        bases = ", ".join(f"`{base}`" for base in found.bases)
        meaning = " ".join(docstring(found, name).split("\n\n")[0].split()).replace("|", "\\|")
        yield f"| `{name}` | {bases} | {meaning} |"
    yield ""


def error_classes(package: griffe.Object) -> Iterator[tuple[str, griffe.Class]]:
    """Those of `asyncjobs`, in the order in which errors.py has them."""
    placed = {name for names in SECTIONS.values() for name in names}
    for name, found in package["errors"].members.items():
        is_public = name in (package.exports or ())
        if isinstance(found, griffe.Class) and is_public and name not in placed:
            yield name, found


def events(package: griffe.Object) -> Iterator[str]:
    def members_of(module: str) -> list[tuple[str, griffe.Object | griffe.Alias]]:
        return list(package[module].members.items())

    yield "## `asyncjobs.events`\n"
    yield "`app.on(JobDead, listener)` calls `listener(event)` in the process where it happens."
    yield "`app.on(JobEvent, ...)` gets all events of jobs.\n"
    yield "| event | fields | when |\n|---|---|---|"
    for name, found in [*members_of("model.events"), *members_of("model.step_events")]:
        if isinstance(found, griffe.Class) and is_event(found):
            fields = ", ".join(f"`{field}`" for field in fields_of(found))
            when = " ".join(docstring(found, name).split()).replace("|", "\\|")
            yield f"| `{name}` | {fields} | {when} |"
    yield ""


def is_event(found: griffe.Class) -> bool:
    return found.name == "Event" or is_subclass(found, "Event")


def is_subclass(found: griffe.Object, name: str) -> bool:
    if not isinstance(found, griffe.Class):
        return False
    for base in found.bases:
        if str(base).rpartition(".")[2] == name:
            return True
    return any(base.name == name or is_subclass(base, name) for base in found.resolved_bases)


def fields_of(found: griffe.Class) -> Iterator[str]:
    """With those of its bases, as its constructor takes them."""
    for base in reversed(found.resolved_bases):
        if isinstance(base, griffe.Class):
            yield from fields_of(base)
    for name, member in found.members.items():
        if isinstance(member, griffe.Attribute) and not name.startswith("_"):
            yield name
