"""Attempts in processes of their own: `isolation="process"`.

A worker starts one fork server, a fresh interpreter that imports the modules of the job functions
and has no other work. It forks the children. A child waits for one attempt, runs it, and ends.

Read `executor.py` first, then `pool.py`, which keeps children warm. `forkserver.py` and `child.py`
run in those processes. `frames.py` is what a worker and a child send each other.
"""
