"""`asyncjobs worker`: one process, or a parent with several."""
