"""The shop is the app of these tests, as an ini file would say."""

from __future__ import annotations

import pytest

from asyncjobs import AsyncJobs
from tests.testing import shop


@pytest.fixture
def asyncjobs_source() -> AsyncJobs:
    return shop.app


@pytest.fixture
def ran() -> list[object]:
    shop.ran.clear()
    shop.ticks.clear()
    return shop.ran
