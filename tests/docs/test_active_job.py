"""Each row of docs/coming-from/active-job.md has tests, and their names are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "coming-from" / "active-job.md"

PROOFS: dict[str, tuple[str, ...]] = {
    "`perform_later`": ("worker/test_outcomes.py::test_a_value_comes_back",),
    "`perform_now`": ("unit/test_function.py::test_a_plain_call_runs_here_with_a_local_context",),
    "`perform_all_later`": ("unit/test_app.py::test_enqueue_many_keeps_the_order",),
    "`set(wait:, wait_until:, queue:, priority:)`": (
        "worker/test_delayed.py::test_a_delayed_job_runs_and_not_before_its_time",
        "worker/test_labels.py::test_labels_and_tags_are_everywhere",
    ),
    "`queue_as` with a block": ("worker/test_labels.py::test_a_queue_by_the_arguments",),
    "`queue_name_prefix`": ("worker/test_labels.py::test_a_prefix_of_queues",),
    "`retry_on`": ("worker/test_retries.py::test_each_kind_of_failure_has_its_budget",),
    "`discard_on`": ("worker/test_outcomes.py::test_what_discard_on_names_ends_the_job",),
    "`rescue_from`": (
        "worker/test_on_error.py::test_the_function_is_asked_first_then_its_registry_then_the_app",
    ),
    "`after_discard`": ("worker/test_callbacks.py::test_a_discarded_job_is_told_with_its_reason",),
    "the block of `retry_on`, when it is exhausted": (
        "worker/test_callbacks.py::test_a_dead_job_is_told_to_its_function_and_to_the_app",
    ),
    "`around_perform`, `before_perform`, `after_perform`": (
        "worker/test_user_middleware.py::test_each_attempt_passes_app_registry_and_function",
    ),
    "`around_enqueue`, `before_enqueue`, `after_enqueue`": (
        "worker/test_enqueue_middleware.py::test_an_abort_stores_nothing_and_tells_the_caller_why",
    ),
    "`throw :abort`": (
        "worker/test_enqueue_middleware.py::test_an_abort_stores_nothing_and_tells_the_caller_why",
    ),
    "arguments": ("worker/test_typed.py::test_values_and_results_come_as_their_types",),
    "custom serializers": ("worker/test_typed.py::test_results_of_other_types",),
    "GlobalID, `DeserializationError`": (
        "worker/test_typed.py::test_a_row_is_stored_by_its_id_and_loaded_for_the_job",
        "worker/test_typed.py::test_a_row_that_is_gone_discards_the_job",
    ),
    "`enqueue_after_transaction_commit`": ("worker/test_labels.py::test_deferred_calls",),
    "Continuable: `step`, cursors": (
        "worker/test_steps.py::test_a_finished_step_does_not_run_again",
        "worker/test_steps.py::test_a_cursor_keeps_its_type",
    ),
    "`isolated: true`": ("worker/test_steps.py::test_an_isolated_step_has_an_attempt_of_its_own",),
    "`max_resumptions`, `resume_errors_after_advancing`": (
        "worker/test_steps.py::test_what_brings_the_job_forward_spends_no_attempt",
        "worker/test_steps.py::test_resumptions_have_a_limit",
    ),
    "`stopping?`, the reason of an interruption": (
        "worker/test_suspend.py::test_a_stop_is_told_before_the_grace",
    ),
    "Attributes (8.2)": ("worker/test_steps.py::test_a_state_is_kept_from_attempt_to_attempt",),
    "`CurrentAttributes`, locale, time zone": (
        "worker/test_labels.py::test_a_context_variable_travels",
    ),
    "`ActiveJob::TestHelper`": (
        "testing/test_plugin.py::test_it_works_with_each_plugin_for_async_tests",
    ),
    "`assert_enqueued_with`, `assert_no_enqueued_jobs`": (
        "testing/test_recorder.py::test_a_job_is_found_by_its_arguments_however_they_were_given",
        "testing/test_recorder.py::test_what_was_enqueued_counts_after_it_has_run",
    ),
    "`perform_enqueued_jobs`": (
        "testing/test_worker.py::test_perform_runs_one_call_and_enqueues_none",
        "testing/test_worker.py::test_drain_runs_all_in_order_and_what_they_enqueue",
    ),
    "`log_arguments = false`": (
        "telemetry/test_logs.py::test_a_hosts_handler_hides_what_is_sensitive",
    ),
    "tagged logging": ("worker/test_labels.py::test_labels_and_tags_are_everywhere",),
    "instrumentation (`ActiveSupport::Notifications`)": (
        "worker/test_async_listeners.py::test_it_hears_events_in_their_order_on_the_loop_of_the_app",
    ),
    "`queue_adapter`": ("conformance/test_shipped.py::",),
    "recurring tasks of Solid Queue, sidekiq-cron": ("worker/test_schedules.py::",),
    "`limits_concurrency to: 5, key: ...`": ("worker/test_interactions_limits.py::",),
    "`limits_concurrency` to 1, sidekiq-unique-jobs": ("conformance/test_unique.py::",),
    "`rails generate job`": ("cli/test_new.py::",),
}
"""For each row the tests that fail without it; a name that ends with `::` means the whole file."""


def rows() -> list[str]:
    text = PAGE.read_text().partition("## Each part")[2].partition("## What is different")[0]
    cells = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", text, re.MULTILINE)
    return [cell for cell in cells if cell != "Active Job"]


def test_each_row_has_its_proof() -> None:
    assert rows() == list(PROOFS)


@pytest.mark.parametrize("row", PROOFS)
def test_each_proof_is_there(row: str) -> None:
    for proof in PROOFS[row]:
        path, name = proof.split("::")
        source = (ROOT / "tests" / path).read_text()
        assert not name or f"def {name}(" in source
