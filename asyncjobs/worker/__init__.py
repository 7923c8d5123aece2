"""The worker: engine/ is the way of a job, the rest stands around it.

worker.py starts and stops · session.py holds the lease and numbers the exchanges ·
lease.py renews it · settling.py says how an attempt ended · duties/ has the periodic duties,
upkeep.py the loop that runs them · supervisor/ keeps several worker processes alive.
"""
