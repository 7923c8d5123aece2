"""Several worker processes under one parent that runs no jobs and imports no app.

supervisor.py keeps them alive, restarts and stops them · child.py is one of them as the
parent sees it · link.py is the parent as a child sees it · patience.py says when a process
that fails is started again, and when no more.
"""
