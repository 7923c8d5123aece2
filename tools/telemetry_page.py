"""docs/reference/telemetry.md: metrics, spans, attributes, Prometheus names.

A Prometheus name is what OpenTelemetry's exporter makes of a metric: each is exported once, and
the name is read from the result. Needs the extra `prometheus`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest

from asyncjobs.model.ends import OUTCOMES
from asyncjobs.telemetry import instruments, spans
from asyncjobs.telemetry.instruments import FLEET, WORKER, Instrument

HEAD = """\
# Telemetry reference

<!-- Written by tools/telemetry_page.py from the code; change it there. -->

Scope `asyncjobs`, schema {schema}. How to turn it on: [Observability](../guides/observability.md).
"""
ATTRIBUTES = {
    instruments.SYSTEM: "`asyncjobs`",
    instruments.OPERATION: "`enqueue`, `process` or `batch`; for upkeep `reclaim`, `promote` or "
    "`cron`",
    instruments.TYPE: "`send` or `process`; for upkeep `settle`, for `cron` `create`",
    instruments.QUEUE: f"the queue; `{instruments.OTHER}` beyond 1,000 pairs of queue and job "
    "function",
    instruments.JOB: f"the job function; `{instruments.OTHER}` for one that the process does not "
    "have",
    instruments.OUTCOME: "how an attempt or a job ended: "
    + ", ".join(f"`{word}`" for word in dict.fromkeys(OUTCOMES.values())),
    instruments.TICK: "what became of a tick: `fired`, `missed` (outside of `catch_up`) or "
    "`skipped` (by `overlap`)",
    instruments.ERROR: "only if it ended by an error: the type of the exception, or `crashed`, "
    f"`unknown`, `lease_lost`; `{instruments.OTHER}` beyond 100 kinds of end",
    instruments.LIMIT: f"the name of a limit; `{instruments.OTHER}` beyond 100 of a queue",
    instruments.STATE: "`ready`, `held`, `running`, `scheduled` or `dead`",
    instruments.FLOW_STATE: "`opened`, `running`, `succeeded`, `failed` or `cancelled`",
}

SPANS = """\
## Spans

| span | kind | when |
|---|---|---|
| `enqueue <job function>` | producer | each enqueue; one span for a call of over 100 jobs |
| `process <job function>` | consumer | each attempt |
| `batch <job function>` | consumer | each call of a batch consumer, with a link to each attempt |
| `reclaim` | internal | jobs of a dead worker were given back; only with `trace_upkeep=True` |
| `promote` | internal | scheduled jobs were due and are ready; only with `trace_upkeep=True` |
| `cron` | internal | a tick of a schedule has made a job; only with `trace_upkeep=True` |

The attribute `asyncjobs.link` of a link says where it leads: `creation` (the enqueue),
`previous_attempt`, `parent` (the last attempt of a job in front, in a flow; at most eight), or
`item` (an attempt of a batch).
Events of an attempt: `retry_scheduled` and `snoozed` with `delay_s`, `timeout`, `lease_lost`,
`shutdown_requested`.

Spans have the system, operation, queue, job function, outcome and error type of metrics, and these:

| attribute of a span | value |
|---|---|"""
OF_SPANS = {
    "server.address": "the store's host, or the path of its socket; with sentinels, the first of "
    "them",
    "server.port": "its port",
    spans.MESSAGE_ID: "the job, `queue/id`; not for a call of over 100 jobs",
    spans.CONVERSATION: "the first job of those that led to this one, or the id of its flow",
    spans.CLIENT: "the worker",
    spans.GROUP: "the app's `prefix`",
    spans.BATCH: "the number of jobs in a call of over 100, or in a batch",
    spans.ATTEMPT: "the attempt's number, from 1",
    spans.MAX_ATTEMPTS: "the most attempts of the job",
    spans.PRIORITY: "`critical`, `high`, `normal` or `low`",
    spans.QUEUE_TIME: "from being ready to the start, in milliseconds by the store's clock",
    spans.JOBS: "for `reclaim`: jobs given back; for `promote`: jobs made ready",
    spans.SCHEDULE: "for `cron`: the id of the schedule",
    spans.TICK_LAG: "for `cron`: how long after the tick the job was stored, in milliseconds",
    spans.LEASES: "for `reclaim`: leases that had ended",
}


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD.format(schema=instruments.SCHEMA_URL.rpartition("/")[2])
    yield "## Metrics of workers, and of processes that enqueue\n"
    yield from table(WORKER)
    yield "\n## Metrics of `asyncjobs exporter`\n"
    yield from table(FLEET)
    yield "\n## Attributes\n"
    yield "| attribute | value |\n|---|---|"
    used = {name for each in (*WORKER, *FLEET) for name in each.attributes}
    if used != set(ATTRIBUTES):
        raise SystemExit(f"attributes without a text, or texts too many: {used ^ set(ATTRIBUTES)}")
    yield from (f"| `{name}` | {text} |" for name, text in ATTRIBUTES.items())
    yield "\nIds are never attributes of metrics. Arguments, results and error texts are never"
    yield "exported."
    yield f"\n{SPANS}"
    yield from (f"| `{name}` | {text} |" for name, text in OF_SPANS.items())
    yield "\n## Recommended buckets\n"
    for buckets in dict.fromkeys(each.buckets for each in WORKER if each.buckets):
        names = [f"`{each.name}`" for each in WORKER if each.buckets == buckets]
        yield f"- {', '.join(names)}: {' '.join(f'{edge:.10g}' for edge in buckets)}"


def table(rows: Sequence[Instrument]) -> Iterator[str]:
    names = prometheus_names(rows)
    yield "| metric | kind | unit | what | attributes | in Prometheus |\n|---|---|---|---|---|---|"
    for row in rows:
        attributes = ", ".join(f"`{name}`" for name in row.attributes) or "none"
        kind = row.kind.replace("_", "-")
        yield (
            f"| `{row.name}` | {kind} | `{row.unit}` | {row.text} | {attributes} | "
            f"`{names[row.name]}` |"
        )


def prometheus_names(rows: Sequence[Instrument]) -> dict[str, str]:
    """What the exporter calls each of them, found out by exporting one value."""
    return {row.name: _exported(row) for row in rows}


def _exported(row: Instrument) -> str:
    provider = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
    try:
        _measure(provider.get_meter("asyncjobs"), row)
        lines = generate_latest().decode().splitlines()
    finally:
        provider.shutdown()
    (text,) = [line for line in lines if line.startswith("# HELP ") and line.endswith(row.text)]
    return text.split()[2]


def _measure(meter: Meter, row: Instrument) -> None:
    about = (row.name, row.unit, row.text)
    if row.kind == "histogram":
        meter.create_histogram(*about).record(1)
    elif row.kind == "counter":
        meter.create_counter(*about).add(1)
    elif row.kind == "up_down_counter":
        meter.create_up_down_counter(*about).add(1)
    else:
        meter.create_observable_gauge(
            row.name, [lambda _: [Observation(1)]], unit=row.unit, description=row.text
        )
