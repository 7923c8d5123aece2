"""`asyncjobs enqueue` and `asyncjobs jobs`: make one job, or show one."""
