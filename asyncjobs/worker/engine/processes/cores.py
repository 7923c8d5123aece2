"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["available_cores"]


def available_cores(group: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores by the scheduler, and by the CPU limit of a container, whichever are fewer.

    `group`: the folder of this process's control group.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    limit = _limit(group)
    if limit is None:
        return cores
    # Half a core more than a whole one is still used by one more process.
    return max(1, min(cores, math.ceil(limit)))


def _limit(group: Path) -> float | None:
    """The CPU limit of a container in cores; None without one."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        if quota == "max":
            return None
        return int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota_us = int((group / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((group / "cpu/cpu.cfs_period_us").read_text())
        if quota_us > 0:
            return quota_us / period_us
    return None
