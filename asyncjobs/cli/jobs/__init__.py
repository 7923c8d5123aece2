"""`asyncjobs enqueue` and `asyncjobs jobs`: one job, made or looked up."""
