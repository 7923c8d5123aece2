"""`asyncjobs generate job`."""
