"""Where the asyncjobs that runs came from, for projects that need the same one."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from typing import Final

__all__ = ["installed_from"]

DISTRIBUTION: Final = "asyncjobs-framework"


def installed_from() -> str:
    """What pip needs to install it again: a URL, or nothing if a package index has it.

    pip notes the URL of an installation that came from a folder, an archive or a repository
    (PEP 610), and leaves passwords out of it.
    """
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return ""
    if text is None:
        return ""
    noted = json.loads(text)
    url = str(noted["url"])
    vcs = noted.get("vcs_info")
    if vcs is not None:
        # The very commit: a branch may have moved on since.
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    # It will stand in a Makefile, between quotes of the shell.
    return url.replace("'", "%27").replace("$", "%24")
