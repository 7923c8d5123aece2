"""What the doctor advises, from what a server says of itself."""

from __future__ import annotations

import pytest

from asyncjobs.store.redis.diagnosis import findings


@pytest.mark.parametrize(("file", "is_rewritten"), [("/etc/valkey.conf", True), ("", False)])
def test_only_a_server_with_a_file_is_told_to_rewrite_it(file: str, is_rewritten: bool) -> None:
    info = {"redis_version": "7.0.15", "config_file": file, "maxmemory_policy": "allkeys-lru"}
    (found,) = [f for f in findings(info, {}, 0) if f.setting == "maxmemory-policy"]
    assert found.change[0] == "CONFIG SET maxmemory-policy noeviction"
    assert ("CONFIG REWRITE" in found.change) == is_rewritten
    assert len(found.change) == 2
