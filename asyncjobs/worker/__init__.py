"""The worker: engine/ is the way of a job, the rest stands around it.

worker.py starts and stops · session.py holds the lease and numbers the exchanges ·
lease.py renews it · settling.py says how an
attempt ended · upkeep.py has the periodic duties ·
supervisor/ keeps several worker processes alive.
"""
