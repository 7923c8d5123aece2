"""`asyncjobs new`."""
