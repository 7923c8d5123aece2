"""`asyncjobs enqueue` and `asyncjobs jobs`: make one job; list jobs, and act on them."""
