"""Takes, runs and settles jobs. `worker.py` is what users start.

worker.py has the settings and the switch · shift.py is one run from entering the queues to leaving
them · engine/ takes, runs and settles · lease/ keeps the right to the jobs · duties/ has what is
done from time to time, upkeep.py runs it · watch/ looks at the event loop from another thread.
"""
