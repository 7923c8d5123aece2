"""What a worker process says of its own health, to whoever would restart it.

condition.py is what is said, of one worker · fleet.py the same of a parent's processes ·
server.py, file.py and systemd.py are ways to say it · beats.py says it again and again ·
health.py starts and stops what was asked for.

Nothing here asks the store, and nothing runs on the worker's event loop but one timer: a
loop that is blocked has to be told of, too.
"""
