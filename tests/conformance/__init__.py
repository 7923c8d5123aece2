"""One suite of cases that every backend passes, written against the seam only.

To prove a backend of your own, copy nothing: import the case modules and override one
fixture.

    from tests.conformance.store import clock, new_settings, store    # the fixtures
    from tests.conformance.test_enqueue import *                      # the cases, and so on

    @pytest.fixture
    def make_backend():
        return lambda settings, now_ms: MyBackend(settings, now_ms=now_ms)

All times come from a pinned clock, except where a store can only expire by its own.
Cases that need more than every store has are skipped by capability.
"""
