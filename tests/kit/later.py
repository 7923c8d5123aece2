"""What `make test` leaves to `make test-rest`, beside tests that are marked as `long`.

Debian's Redis and the wheel's Valkey get the same scripts and commands, so most cases that pass on
one of them pass on the other. What differs is how they run scripts, count, expire, block, refuse
and come back. This, and a case of each kind of script, runs on both with every change.
"""

from __future__ import annotations

from typing import Final

import pytest

__all__ = ["NOW", "later"]

SECOND: Final = "redis"

NOW: Final = frozenset(
    {
        # A case of each kind of script.
        "conformance/test_enqueue.py",
        "conformance/test_exchange.py",
        "conformance/test_finished.py",
        "conformance/test_lease.py",
        "conformance/test_schedules_fire.py",
        "conformance/test_settle.py",
        "conformance/test_unique.py",
        "conformance/test_wait_and_take.py",
        # Whole workers.
        "worker/test_cancel.py",
        "worker/test_outcomes.py",
        "worker/test_retries.py",
        "guarantees/test_fencing.py",
        "guarantees/test_reclaim.py",
        # What a server refuses, forgets and says of itself.
        "cli/test_doctor.py",
        "docs/test_deploying.py",
        "faults/test_forgotten_scripts.py",
        "faults/test_full.py",
        "faults/test_lost_data.py",
        "faults/test_lost_replies.py",
        "redis/test_clusters.py",
        "redis/test_entry_ids.py",
        "redis/test_expiry.py",
        "redis/test_layouts.py",
        "redis/test_replicas.py",
        "redis/test_rules.py",
        "telemetry/test_server_attributes.py",
        "unit/test_servers.py",
    }
)
"""Files of tests whose cases run on both servers with every change."""


LONG: Final = frozenset(
    {
        # Another template of a new project, with its own type checker and tests.
        "cli/test_new.py::test_what_is_written_passes_its_own_checks[fastapi]",
        "cli/test_new.py::test_what_is_written_passes_its_own_checks[django]",
        # All cases of the suite once more, in a process of its own.
        "conformance/test_shipped.py::test_a_store_of_somebody_else_passes",
        # Pages with many commands.
        *(
            f"docs/test_pages.py::test_every_block_of_a_page_runs[docs/guides/{page}.md]"
            for page in ("dead-letters", "inspecting", "observability", "operating")
        ),
        # Bugs that show after hundreds of seeds.
        *(
            f"simulation/test_simulation.py::test_a_planted_bug_is_found[{bug}]"
            for bug in (
                "a_lease_is_believed_in",
                "a_step_back_ends_holds",
                "late_parked_exchange_takes_effect",
                "lost_leases_come_back",
            )
        ),
    }
)
"""Single tests that take a long time of the processor, beside those that are marked."""


def later(item: pytest.Item) -> str | None:
    """The mark of a test that waits for `make test-rest`."""
    file = "/".join(item.path.parts[-2:])
    if f"{file}::{item.name}" in LONG:
        return "long"
    about = getattr(item, "callspec", None)
    if about is None:
        return None
    if SECOND in about.params.values() and file not in NOW:
        return "second_server"
    # Each case once for each key of a queue. As a user with few rights it sends what the other
    # cases send as well.
    if file == "redis/test_acl.py" and item.function.__module__.endswith(".failing_anywhere"):
        return "long"
    return None
