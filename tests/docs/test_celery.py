"""Each row of docs/coming-from/celery.md has tests, and their names are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "coming-from" / "celery.md"
COMPAT = "compat/test_celery.py"

PROOFS: dict[str, tuple[str, ...]] = {
    # The app
    "`Celery(broker=, backend=)`": ("conformance/test_shipped.py::",),
    "`autodiscover_tasks`, `imports`": ("unit/test_registry.py::",),
    "`shared_task`": (f"{COMPAT}::test_shared_tasks_belong_to_the_app_that_includes_them",),
    "`send_task` by name": (f"{COMPAT}::test_send_task_by_name", "cli/test_enqueue.py::"),
    # Tasks
    "`@app.task`": (f"{COMPAT}::test_delay_and_get", "worker/test_threads.py::"),
    "`bind=True`, `self.request`": ("unit/test_context.py::",),
    "`self.retry(...)`": (f"{COMPAT}::test_retries_are_those_of_asyncjobs",),
    "`autoretry_for`, `max_retries`, `retry_backoff`": (
        "worker/test_retries.py::test_each_kind_of_failure_has_its_budget",
    ),
    "`throws`, `Ignore`, `Reject`": (
        "worker/test_outcomes.py::test_what_discard_on_names_ends_the_job",
    ),
    "`acks_late`, `reject_on_worker_lost`": ("guarantees/test_reclaim.py::",),
    "`time_limit`, `soft_time_limit`": ("worker/test_outcomes.py::", "worker/test_isolated.py::"),
    "`update_state(meta=)`": ("worker/test_results.py::",),
    "`Task` as a base class": ("worker/test_dependencies.py::",),
    "pickle, yaml": ("worker/test_typed.py::test_values_and_results_come_as_their_types",),
    # Calls
    "`delay`": (f"{COMPAT}::test_delay_and_get", "unit/test_sync_questions.py::"),
    "`apply_async(countdown=, eta=)`": (
        f"{COMPAT}::test_apply_async_has_the_options_of_celery",
        "worker/test_delayed.py::test_a_delayed_job_runs_and_not_before_its_time",
    ),
    "`expires=`": ("worker/test_expires.py::test_a_job_that_is_too_late_is_not_started",),
    "`task_id=`": (f"{COMPAT}::test_apply_async_has_the_options_of_celery",),
    "`priority=`": (
        f"{COMPAT}::test_numbers_of_priority_are_refused_until_it_is_known_what_they_mean",
    ),
    "`task_routes`, `routing_key`": ("worker/test_labels.py::test_a_queue_by_the_arguments",),
    "`link_error`": (
        "worker/test_callbacks.py::test_a_dead_job_is_told_to_its_function_and_to_the_app",
    ),
    "`delay_on_commit` of Django": ("worker/test_labels.py::test_deferred_calls",),
    "`revoke()`, `revoke(terminate=True)`": (
        f"{COMPAT}::test_the_states_of_celery",
        "worker/test_cancel.py::test_a_running_job_is_stopped",
    ),
    # Canvas
    "`s`, `si`, `signature`": (f"{COMPAT}::test_a_signature_is_a_value",),
    "`chain`, `\\|`, `link`": (
        f"{COMPAT}::test_chains_groups_and_chords",
        "worker/test_flows.py::test_a_failure_cancels_what_waits",
    ),
    "`group`": ("worker/test_flows.py::test_a_group_has_a_list_and_a_flow_a_dict",),
    "`chord`": ("worker/test_flows.py::test_a_chord_gets_the_list",),
    "a chord whose header fails": (
        f"{COMPAT}::test_a_flow_that_fails_or_is_revoked",
        "worker/test_flows.py::test_a_chord_that_runs_all_the_same",
    ),
    "`chunks`, `starmap`": ("worker/test_steps.py::", "unit/test_app.py::"),
    "celery-batches": ("worker/test_batches.py::test_one_call_serves_many_jobs",),
    # Results
    "`AsyncResult(id)`": (f"{COMPAT}::test_a_result_by_its_id",),
    "`get`, `ready`, `state`": (f"{COMPAT}::test_the_states_of_celery",),
    "`result_expires`, `ignore_result`": (f"{COMPAT}::test_a_result_may_be_ignored",),
    "`get` inside of a task": ("worker/test_waiting_for_jobs.py::", "worker/test_gather.py::"),
    "django-celery-results": ("worker/test_history.py::",),
    # Settings
    "`app.conf`, `config_from_object`": ("unit/test_config.py::",),
    "`beat_schedule`, `crontab`, beat": (
        "worker/test_schedules.py::test_ten_workers_fire_each_tick_once",
    ),
    "django-celery-beat, redbeat": ("worker/test_schedules.py::test_by_hand",),
    "`visibility_timeout`": ("guarantees/test_fencing.py::",),
    "`task_always_eager`": (
        "testing/test_worker.py::test_drain_runs_all_in_order_and_what_they_enqueue",
    ),
    # Limits
    "`rate_limit`": ("guarantees/test_gates.py::",),
    "celery-once, celery-singleton": ("conformance/test_unique.py::",),
    # Signals
    "`before_task_publish`": (
        "worker/test_enqueue_middleware.py::test_an_abort_stores_nothing_and_tells_the_caller_why",
    ),
    "`task_prerun`, `task_postrun`": (
        "worker/test_user_middleware.py::test_each_attempt_passes_app_registry_and_function",
    ),
    "`task_success`, `task_retry`, `task_revoked`": (
        "worker/test_async_listeners.py::test_it_hears_events_in_their_order_on_the_loop_of_the_app",
    ),
    "`task_failure`": (
        "worker/test_on_error.py::test_the_function_is_asked_first_then_its_registry_then_the_app",
    ),
    "`worker_process_init`, `worker_shutdown`": (
        "worker/test_lifespan.py::test_it_opens_before_the_first_job_and_closes_after_the_last",
    ),
    # Workers
    "prefork, threads, gevent": ("worker/test_isolated.py::",),
    "`--concurrency`": ("cli/test_worker.py::",),
    "`worker_prefetch_multiplier`": ("unit/test_processor.py::",),
    "`--max-tasks-per-child`, `--max-memory-per-child`": ("cli/test_worker.py::",),
    "warm shutdown": ("worker/test_stop.py::",),
    "Flower, `inspect`": ("cli/test_stats.py::", "cli/test_jobs_list.py::"),
    "`control.shutdown`, `control.purge`": ("worker/test_orders.py::", "cli/test_queues.py::"),
    "celery-exporter, Sentry, OpenTelemetry": ("telemetry/test_metrics.py::",),
}
"""For each row the tests that fail without it; a name that ends with `::` means the whole file."""


def rows() -> list[str]:
    text = PAGE.read_text().partition("## The app")[2].partition("## What has no equal")[0]
    cells = re.findall(r"^\| (.+?) \| .+ \| \[.+\) \|$", text, re.MULTILINE)
    return [cell for cell in cells if cell != "Celery"]


def test_each_row_has_its_proof() -> None:
    assert rows() == list(PROOFS)


@pytest.mark.parametrize("row", PROOFS)
def test_each_proof_is_there(row: str) -> None:
    for proof in PROOFS[row]:
        path, name = proof.split("::")
        source = (ROOT / "tests" / path).read_text()
        assert not name or f"def {name}(" in source
