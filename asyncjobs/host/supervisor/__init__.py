"""Several worker processes under one parent that runs no jobs and imports no app.

supervisor.py decides what follows when a process ends · fleet.py owns the live processes ·
child.py is one process as the parent sees it · link.py is the parent as a child sees it ·
renewal.py replaces running processes by new ones · replacements.py starts failed ones again ·
patience.py says after which pause, and how often.
"""
