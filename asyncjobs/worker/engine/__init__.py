"""The engine of a worker: how jobs come in, run, and are settled.

Read in this order: loop.py does one step after the other · steps.py names the steps ·
intake.py decides which one is next · arrivals.py takes in what the store answers ·
holdings.py has the jobs that have come and do not run · appetite.py says how many more are
wanted · signals.py and offer.py know where work may be · parking.py sleeps ·
runner.py runs the attempts · executors.py is where their functions are called.

`Processor`, the loop's class, owns all of it; worker/shift.py starts and stops one. When the store
is away, `Session.resync` in worker/lease/ asks until it answers. doubt.py has the words for a queue
in trouble. The rules in comments such as `rule:4` are listed in tools/mutants.toml.
"""
