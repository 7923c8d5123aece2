"""What keeps us safe from foreign code, tasks, texts and bytes. Knows nothing of jobs.

guarded.py calls user code that only observes · own.py keeps our tasks and threads apart from those
of jobs · untrusted.py limits what is read back · texts.py shows foreign values · nearness.py
guesses a name that was meant.
"""
