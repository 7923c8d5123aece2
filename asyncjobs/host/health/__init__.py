"""Reports the health of a worker process to the system that would restart it.

condition.py is the report for one worker · fleet.py the report for a parent and its processes ·
server.py, file.py and systemd.py are ways to send it · reporter.py sends it again and again ·
health.py starts and stops what was asked for.

Nothing here asks the store. Only one timer runs on the worker's event loop, because a blocked loop
has to be reported, too.
"""
