"""`asyncjobs limits`: who waits at which limit, other rules for limits, and opening a key."""
