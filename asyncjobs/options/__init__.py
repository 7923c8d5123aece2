"""What users may set: the options of jobs, the settings of an app, durations and sizes.

`table.py` has one row for each option of a job. Registration, `f.options()`, the envelope, the
command line and docs/reference/settings.md read it, so a new option is a new row.
"""
