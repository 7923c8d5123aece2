"""`asyncjobs check-celery`: what of a Celery code base moves by itself, and what needs a hand.

`files.py` finds the sources, `names.py` and `project.py` know what each name stands for,
`reading.py` and `settings.py` see what is used where, and `rules/` say what that becomes here.
Nothing of the code base is imported, and none of its values is shown.
"""
