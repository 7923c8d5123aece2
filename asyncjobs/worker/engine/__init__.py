"""The engine of a worker: how jobs come in, run, and are settled.

runner.py runs the attempts.
"""
