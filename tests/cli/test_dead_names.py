"""The dead job that `ID` names."""

from __future__ import annotations

import json

from asyncjobs.testing.servers import Server
from tests.cli.dying import Corpse, bury
from tests.cli.test_dead import dead

LONGEST = "x" * 256


def test_a_slash_and_a_long_id(server: Server) -> None:
    bury(server.url, Corpse("mail/5"), Corpse("6", queue="mail"), Corpse(LONGEST, queue="mail"))
    for text, job in (
        ("mail/5", "default/mail/5"),
        ("mail/6", "mail/6"),
        (f"mail/{LONGEST}", f"mail/{LONGEST}"),
    ):
        assert json.loads(dead(server, "show", text, "--json").stdout)["job"] == job
    result = dead(server, "purge", f"mail/{LONGEST}", "mail/5", "--yes")
    assert result.exit_code == 0, result.stderr
    assert dead(server, "list").stdout.count("\n") == 2  # the heading, and mail/6
