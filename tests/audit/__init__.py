"""What must be true of a store at any moment, read from a real one and checked.

`audit` finds keys that contradict each other, leak or are not documented; `leftovers`
finds what a store keeps when all its jobs have ended. Both return one line a finding.
"""

from tests.audit.memory import audit_memory
from tests.audit.rules import audit, leftovers
from tests.audit.snapshot import prefixes

__all__ = ["audit", "audit_memory", "leftovers", "prefixes"]
