"""The engine of a worker: how jobs come in, run, and are settled.

Read in this order: loop.py does one step after the other · steps.py names the steps ·
intake.py decides which one is next · arrivals.py takes in what the store answers ·
holdings.py has the jobs that have come and do not run · appetite.py says how many more are
wanted · signals.py and offer.py know where work may be · parking.py sleeps ·
runner.py runs the attempts · executors.py is where their functions are called.
"""
